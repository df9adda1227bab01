// Backward of the mixed graph on CUDA. Nodes are worked off from the last: its gradient (everything that leaves it, one
// launch), the products with all candidates into it (one), the second convolutions into it (one). The inputs' gradients
// are one launch at the end, and so is the sum of all weight gradients.
#include "mixed_op_backward_device_cuda.h"

#include <algorithm>

namespace nasfast::mixed_op {

template <class S>
DeviceGraphBackward<S>::DeviceGraphBackward(const DeviceGraphCall& call, const DeviceBackwardCall& back)
    : DeviceGraph<S>(call),
      back_(back),
      grad_out_(device_.template read<S>(back.grad_out)),
      node_grad_tensors_(graph_.nodes),
      gz_tensors_(graph_.convs.size()),
      node_grad_(graph_.nodes),
      weight_sums_(device_) {
  const int64_t slots = static_cast<int64_t>(graph_.convs.size() + graph_.pools.size());
  coefficient_tensor_ = device_.empty({slots, 3, C_}, at::kFloat);
  coefficients_ = device_.template write<float>(coefficient_tensor_);
  alpha_grads_ = device_.zeros(call.weights.sizes(), at::kFloat);
  alpha_ = device_.template write<float>(alpha_grads_);
  if (!back.want_params) return;
  for (const at::Tensor& p : call.params) param_grads_.push_back(device_.empty(p.sizes(), param_type(p.scalar_type())));
}

template <class S>
ParamView DeviceGraphBackward<S>::grad_view(int param) const {
  return param < 0 || !back_.want_params ? ParamView{} : param_view(device_, param_grads_[param], true);
}

template <class S>
View DeviceGraphBackward<S>::grad_out_view(int node) const {
  return view_of<S>(grad_out_ + node * C_, h_, w_, C_, graph_.nodes * C_);
}

template <class S>
void DeviceGraphBackward<S>::recompute() {
  this->allocate_saved();
  const int last = this->states() - 1;
  for (auto stage : {Base::Stage::kFirst, Base::Stage::kSecond})
    run_forward_convs<S>(device_, *this->counters_, this->convs_of(0, last, stage, false), N_, this->eps_);
}

template <class S>
BackwardConv DeviceGraphBackward<S>::backward_conv(int conv, const View& g) {
  const Conv& c = graph_.convs[conv];
  BackwardConv out{};
  out.conv = this->conv2d(conv);
  out.g = g;
  if (c.bn >= 0) {
    out.coefficients = coefficients(conv);
    if (back_.batch_stats) out.y = this->y_view(conv);
  }
  if (back_.want_params) weight_sums_.add(out, N_, grad_view(c.depthwise), grad_view(c.product), grad_view(c.product2));
  return out;
}

template <class S>
void DeviceGraphBackward<S>::run_works(std::vector<InputWork> works) {
  run_backward_convs<S>(device_, *this->counters_, std::move(works), N_, back_.batch_stats, back_.want_params,
                        this->eps_);
}

// Everything that leaves a state.
template <class S>
InputWork DeviceGraphBackward<S>::state_work(int state, const View& out, const View& extra, bool wanted) {
  InputWork work;
  work.input_wanted = wanted;
  work.input.x = this->state_view(state);
  work.input.mode = Input::kRelu;
  work.input.out = out;
  work.input.extra = extra;
  work.input.pool_stride = 1;
  for (int e : from_[state]) {
    const Edge& edge = graph_.edges[e];
    const View& g = node_grad_[edge.node];
    for (int i : edge.convs) {
      const Conv& c = graph_.convs[i];
      if (c.input != kFromState) continue;
      const ConvShape& s = shapes_[i];
      work.convs.push_back(
          backward_conv(i, c.output ? g : view_of<S>(device_.template read<S>(gz_tensors_[i]), s.h, s.w, C_, C_)));
    }
    for (int i : edge.pools) {
      const float* k = coefficients(pool_slot(i));
      work.input.pool_stride = edge.stride;
      work.pools.push_back({g, graph_.pools[i].maximum ? nullptr : k, graph_.pools[i].maximum ? k : nullptr});
    }
    if (edge.skip >= 0) work.skips.push_back({g, this->weight(e, edge.skip)});
  }
  return work;
}

template <class S>
void DeviceGraphBackward<S>::node_gradient(int node) {
  const int state = graph_.inputs + node;
  if (from_[state].empty()) {
    node_grad_[node] = grad_out_view(node);
    return;
  }
  node_grad_tensors_[node] = device_.empty({N_, h_, w_, C_}, Base::kStorage);
  node_grad_[node] = view_of<S>(device_.template write<S>(node_grad_tensors_[node]), h_, w_, C_, C_);
  run_works({state_work(state, node_grad_[node], grad_out_view(node), true)});
  for (int e : from_[state])
    for (int i : graph_.edges[e].convs) gz_tensors_[i] = at::Tensor();
}

template <class S>
ProductRow DeviceGraphBackward<S>::product_row(RowKind kind, const View& x, int edge, int candidate, int bn, int gamma,
                                               int beta, int slot) {
  ProductRow row{};
  row.kind = kind;
  row.x = x;
  row.norm = this->norm(bn, gamma, beta);
  row.weight = this->weight(edge, candidate);
  row.alpha_grad = alpha_ + edge * graph_.candidates + candidate;
  if (slot >= 0) row.coefficients = coefficients(slot);
  row.gamma_grad = grad_view(gamma);
  row.beta_grad = grad_view(beta);
  return row;
}

template <class S>
void DeviceGraphBackward<S>::products(int node) {
  std::vector<ProductWork> works;
  for (int e : into_[node]) {
    const Edge& edge = graph_.edges[e];
    ProductWork images{node_grad_[node], true, 1, {}}, state{node_grad_[node], false, edge.stride, {}};
    for (int i : edge.convs) {
      const Conv& c = graph_.convs[i];
      if (c.output)
        images.rows.push_back(product_row(RowKind::kImage, this->y_view(i), e, c.candidate, c.bn, c.gamma, c.beta, i));
    }
    const View x = this->state_view(edge.source);
    for (int i : edge.pools) {
      const Pool& p = graph_.pools[i];
      state.rows.push_back(product_row(p.maximum ? RowKind::kMaximum : RowKind::kAverage, x, e, p.candidate, p.bn,
                                       p.gamma, p.beta, pool_slot(i)));
    }
    if (edge.skip >= 0) state.rows.push_back(product_row(RowKind::kSkip, x, e, edge.skip, -1, -1, -1, -1));
    works.push_back(images);
    works.push_back(state);
  }
  run_products<S>(device_, *this->counters_, works, N_, back_.batch_stats, this->eps_);
}

// Gradients of the second convolutions of the edges into a node, down to the y of the first ones.
template <class S>
void DeviceGraphBackward<S>::second_convs(int node) {
  std::vector<InputWork> works;
  for (int e : into_[node])
    for (int i : graph_.edges[e].convs) {
      const Conv& c = graph_.convs[i];
      if (c.input == kFromState) continue;
      const Conv& first = graph_.convs[c.input];
      const ConvShape& s = shapes_[c.input];
      InputWork work;
      work.convs.push_back(backward_conv(i, node_grad_[node]));
      work.input.x = this->y_view(c.input);
      work.input.mode = work.convs[0].conv.mode;
      work.input.norm = this->norm(first.bn, first.gamma, first.beta);
      gz_tensors_[c.input] = device_.empty({N_, s.h, s.w, C_}, Base::kStorage);
      work.input.out = view_of<S>(device_.template write<S>(gz_tensors_[c.input]), s.h, s.w, C_, C_);
      work.input.coefficients = coefficients(c.input);
      work.input.gamma_grad = grad_view(first.gamma);
      work.input.beta_grad = grad_view(first.beta);
      works.push_back(work);
    }
  if (!works.empty()) run_works(std::move(works));
}

template <class S>
void DeviceGraphBackward<S>::input_gradients() {
  std::vector<InputWork> works;
  for (int s = 0; s < graph_.inputs; ++s) {
    const bool wanted = back_.want_state[s];
    state_grads_.push_back(wanted ? device_.empty_channels_last(N_, C_, this->H_, this->W_, Base::kStorage)
                                  : at::Tensor());
    if (!wanted && (!back_.want_params || from_[s].empty())) continue;
    View out{};
    if (wanted) out = view_of<S>(device_.template write<S>(state_grads_[s]), this->H_, this->W_, C_, C_);
    works.push_back(state_work(s, out, {}, wanted));
  }
  if (!works.empty()) run_works(std::move(works));
}

template <class S>
DeviceBackwardResult DeviceGraphBackward<S>::run(const at::Tensor& out, const at::Tensor& stats,
                                                 const std::vector<at::Tensor>& saved) {
  this->set_stats(stats, false);
  if (out.numel() > 0) this->out_ = const_cast<S*>(device_.template read<S>(out));
  if (saved.empty())
    recompute();
  else
    this->set_saved(saved, false);
  for (int node = graph_.nodes - 1; node >= 0; --node) {
    node_gradient(node);
    products(node);
    second_convs(node);
  }
  input_gradients();
  if (back_.want_params) weight_sums_.reduce();
  return {state_grads_, alpha_grads_, param_grads_};
}

template class DeviceGraphBackward<float>;
template class DeviceGraphBackward<bf16_t>;
template class DeviceGraphBackward<half_t>;

}  // namespace nasfast::mixed_op
