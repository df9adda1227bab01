// Backward of the mixed graph on the CPU.
//
// Nodes are worked off from the last. For a node with gradient G: one pass over the images takes sum G and sum G*y of
// every candidate of every edge into it, which are all architecture gradients and all BatchNorm reductions at once. A
// second pass takes the gradients of the second convolutions, and a third those of a whole source state: everything
// that leaves it, summed in scratch and written once. Weight gradients are kept per share of images and added up in
// order at the end; where nobody asked for them, neither they nor the depthwise outputs they need are computed.
#include "mixed_op_backward_cpu.h"

#include <algorithm>

namespace nasfast::mixed_op {

template <class S>
MixedGraphBackwardCpu<S>::MixedGraphBackwardCpu(const GraphCall& call, const BackwardCall& back)
    : MixedGraphCpu<S>(call, true),
      back_(back),
      param_shapes_(call.params),
      shares_(image_shares(shape_.N)),
      node_grad_(graph_.nodes),
      gz_(graph_.convs.size()),
      depthwise_at_(graph_.convs.size(), -1),
      product_at_(graph_.convs.size(), -1) {
  const int64_t Cp = shape_.Cp;
  int64_t total = 0;
  for (size_t i = 0; i < graph_.convs.size(); ++i) {
    const ConvGeometry& g = layout_.geometry[i];
    if (g.front == Front::kDepthwise) {
      depthwise_at_[i] = total;
      total += Cp * g.kernel * g.kernel;
    }
    product_at_[i] = total;
    total += Cp * g.product_blocks() * kLanes;
  }
  const auto options = call.weights.options();
  weight_grads_ = at::zeros({back.want_params ? shares_ : 0, total}, options);
  alpha_grad_ = at::zeros_like(call.weights);
  norm_grads_ = at::zeros({std::max(graph_.norms, 1), 2, Cp}, options);
  coefficients_ = at::zeros({static_cast<int64_t>(graph_.convs.size() + graph_.pools.size()), 3, Cp}, options);
  mask_sums_ = at::empty({static_cast<int64_t>(graph_.convs.size()), shape_.N, 2, Cp}, options);
  for (int64_t s = 0; s < shares_; ++s) scratch_.emplace_back(layout_, true);
}

template <class S>
void MixedGraphBackwardCpu<S>::each_image(const std::function<void(int64_t, int64_t)>& f) {
  for_image_shares(shape_.N, shares_, [&](int64_t share, int64_t begin, int64_t end) {
    for (int64_t n = begin; n < end; ++n) f(n, share);
  });
}

template <class S>
double MixedGraphBackwardCpu<S>::through_norm(int bn, double w, double count, const double* s0, const double* s1,
                                              A* abc) {
  A* grads = norm_grads_.template data_ptr<A>() + bn * 2 * shape_.Cp;
  return norm_backward(this->norm(bn), w, count, back_.batch_stats, s0, s1, shape_.C, shape_.Cp, abc, grads);
}

template <class S>
GradSource<S> MixedGraphBackwardCpu<S>::grad_source(int64_t index, const A* g, const S* y) const {
  const A* abc = coefficients_.template data_ptr<A>() + index * 3 * shape_.Cp;
  return {g, back_.batch_stats ? y : nullptr, abc, abc + shape_.Cp, abc + 2 * shape_.Cp};
}

template <class S>
typename MixedGraphBackwardCpu<S>::A* MixedGraphBackwardCpu<S>::grad_image(int node, int64_t n) const {
  return node_grad_[node].template data_ptr<A>() + n * shape_.B * shape_.out_pixels() * kLanes;
}

// Sums of one edge in float64, [1 + images][Cp], from the per-image ones.
template <class S>
void MixedGraphBackwardCpu<S>::edge_sums(int e, const at::Tensor& partial, int64_t rows) {
  const Edge& edge = graph_.edges[e];
  const int64_t Cp = shape_.Cp;
  std::vector<double> sums(rows * Cp, 0.0);
  const A* p = partial.template data_ptr<A>();
  for (int64_t n = 0; n < shape_.N; ++n)
    for (int64_t i = 0; i < rows * Cp; ++i) sums[i] += p[n * rows * Cp + i];
  const double count = static_cast<double>(shape_.N * shape_.out_pixels());
  A* alpha = alpha_grad_.template data_ptr<A>() + e * graph_.candidates;
  const A* w = this->weights_of(e);
  int64_t row = 1;
  const auto plain_sum = [&](const double* s) {
    double total = 0;
    for (int64_t c = 0; c < shape_.C; ++c) total += s[c];
    return total;
  };
  A* abc = coefficients_.template data_ptr<A>();
  for (int i : edge.convs) {
    const Conv& c = graph_.convs[i];
    if (!c.output) continue;
    alpha[c.candidate] = static_cast<A>(
        through_norm(c.bn, w[c.candidate], count, sums.data(), sums.data() + row++ * Cp, abc + i * 3 * Cp));
  }
  for (int i : edge.pools) {
    const Pool& pool = graph_.pools[i];
    A* at = abc + (graph_.convs.size() + i) * 3 * Cp;
    const double* s1 = sums.data() + row++ * Cp;
    if (pool.bn >= 0) {
      alpha[pool.candidate] = static_cast<A>(through_norm(pool.bn, w[pool.candidate], count, sums.data(), s1, at));
    } else {
      alpha[pool.candidate] = static_cast<A>(plain_sum(s1));
      std::fill(at, at + Cp, w[pool.candidate]);
    }
  }
  if (edge.skip >= 0) alpha[edge.skip] = static_cast<A>(plain_sum(sums.data() + row * Cp));
}

// The gradient of a node, and its sums with every candidate of every edge into it.
template <class S>
void MixedGraphBackwardCpu<S>::node_sums(int node) {
  const int64_t Cp = shape_.Cp;
  node_grad_[node] = cached_empty({shape_.N, shape_.B, shape_.out_pixels(), kLanes}, scalar_type_of<A>());
  std::vector<int64_t> rows;
  std::vector<at::Tensor> partial;
  for (int e : into_[node]) {
    const Edge& edge = graph_.edges[e];
    int64_t r = 1 + static_cast<int64_t>(edge.pools.size()) + (edge.skip >= 0);
    for (int i : edge.convs) r += graph_.convs[i].output;
    rows.push_back(r);
    partial.push_back(at::empty({shape_.N, r, Cp}, alpha_grad_.options()));
  }
  each_image([&](int64_t n, int64_t share) {
    node_gradient(node, n, share);
    std::vector<const S*> ys;
    for (size_t j = 0; j < into_[node].size(); ++j) {
      const Edge& edge = graph_.edges[into_[node][j]];
      ys.clear();
      for (int i : edge.convs)
        if (graph_.convs[i].output) ys.push_back(this->saved_image(i, n));
      for (int i : edge.pools) ys.push_back(this->pool_image_of(graph_.pools[i], n));
      SkipInput<S> skip{};
      if (edge.skip >= 0) {
        const StateView<S> v = this->view(edge.source);
        skip = {v.image(n), v.stride, A(1)};
      }
      k_.products(grad_image(node, n), ys.data(), ys.size(), &skip, edge.skip >= 0, shape_.C, shape_.out_pixels(),
                  partial[j].template data_ptr<A>() + n * rows[j] * Cp);
    }
  });
  for (size_t j = 0; j < into_[node].size(); ++j) edge_sums(into_[node][j], partial[j], rows[j]);
}

template <class S>
WeightGrads<typename MixedGraphBackwardCpu<S>::A> MixedGraphBackwardCpu<S>::weight_grads(int conv,
                                                                                         int64_t share) const {
  if (!back_.want_params) return {nullptr, nullptr};
  A* base = weight_grads_.template data_ptr<A>() + share * weight_grads_.size(1);
  return {depthwise_at_[conv] >= 0 ? base + depthwise_at_[conv] : nullptr, base + product_at_[conv]};
}

// Gradients of the second convolutions of the edges into a node, down to the y of the first ones.
template <class S>
void MixedGraphBackwardCpu<S>::second_convs(int node) {
  const int64_t Cp = shape_.Cp;
  std::vector<int> seconds;
  for (int e : into_[node])
    for (int i : graph_.edges[e].convs)
      if (graph_.convs[i].input != kFromState) seconds.push_back(i);
  if (seconds.empty()) return;
  for (int i : seconds) {
    const int first = graph_.convs[i].input;
    gz_[first] = cached_empty({shape_.N, layout_.image_elements[first]}, scalar_type_of<A>());
  }
  each_image([&](int64_t n, int64_t share) {
    Scratch<A>& s = scratch_[share];
    for (int i : seconds) {
      const Conv& c = graph_.convs[i];
      const ConvGeometry& g = layout_.geometry[i];
      this->load_second_input(i, n, s.relu);
      k_.conv_backward(g, s.relu, grad_source(i, grad_image(node, n), this->saved_image(i, n)), params_.convs[i],
                       s.tile, s.dy, s.g_relu, false, weight_grads(i, share));
      k_.mask_grad(s.g_relu, c.input_norm ? s.relu : nullptr, this->saved_image(c.input, n), g.blocks_in, g.H, g.W,
                   g.pad, gz_[c.input].template data_ptr<A>() + n * layout_.image_elements[c.input],
                   mask_sums_.template data_ptr<A>() + (c.input * shape_.N + n) * 2 * Cp);
    }
  });
  for (int i : seconds) {
    const Conv& first = graph_.convs[graph_.convs[i].input];
    const ConvGeometry& g = layout_.geometry[graph_.convs[i].input];
    A* abc = coefficients_.template data_ptr<A>() + graph_.convs[i].input * 3 * Cp;
    if (first.bn < 0) {
      std::fill(abc, abc + Cp, A(1));
      continue;
    }
    std::vector<double> sums(2 * Cp, 0.0);
    const A* p = mask_sums_.template data_ptr<A>() + static_cast<int64_t>(graph_.convs[i].input) * shape_.N * 2 * Cp;
    for (int64_t n = 0; n < shape_.N; ++n)
      for (int64_t k = 0; k < 2 * Cp; ++k) sums[k] += p[n * 2 * Cp + k];
    through_norm(first.bn, 1.0, static_cast<double>(shape_.N) * g.h * g.w, sums.data(), sums.data() + Cp, abc);
  }
}

// One image of a source state: everything that leaves it.
template <class S>
void MixedGraphBackwardCpu<S>::state_image(int state, int64_t n, int64_t share, bool want_input) {
  Scratch<A>& s = scratch_[share];
  const StateView<S> v = this->view(state);
  this->load_state_image(state, n, s, false);
  bool any_convs = false;
  std::vector<const A*> skip_grads;
  std::vector<A> skip_weights;
  for (int e : from_[state]) {
    const Edge& edge = graph_.edges[e];
    const A* g = grad_image(edge.node, n);
    for (int i : edge.convs) {
      const Conv& c = graph_.convs[i];
      if (c.input != kFromState) continue;
      const A* from = c.output ? g : gz_[i].template data_ptr<A>() + n * layout_.image_elements[i];
      const S* y = c.bn >= 0 ? this->saved_image(i, n) : nullptr;
      k_.conv_backward(layout_.geometry[i], s.relu, grad_source(i, from, y), params_.convs[i], s.tile, s.dy,
                       want_input ? s.g_relu : nullptr, any_convs, weight_grads(i, share));
      any_convs = true;
    }
    if (edge.skip >= 0) {
      skip_grads.push_back(g);
      skip_weights.push_back(this->weights_of(e)[edge.skip]);
    }
  }
  if (!want_input) return;
  if (this->has_pools(state)) std::fill_n(s.g_raw, shape_.B * v.H * v.W * kLanes, A(0));
  const bool any_pools = pools_image(state, n, s);
  const bool input = state < graph_.inputs;
  const int node = state - graph_.inputs;
  const S* extra = nullptr;
  if (!input)
    extra =
        static_cast<const S*>(back_.grad_out.const_data_ptr()) + n * shape_.out_pixels() * v.stride + node * shape_.C;
  k_.state_grad(s.relu, any_convs ? s.g_relu : nullptr, any_pools ? s.g_raw : nullptr, skip_grads.data(),
                skip_weights.data(), skip_grads.size(), extra, v.stride, shape_.C, v.H, v.W, graph_.pad,
                input ? nullptr : grad_image(node, n),
                input ? static_cast<S*>(state_grads_[state].data_ptr()) + n * v.H * v.W * shape_.C : nullptr, shape_.C);
}

// Adds the pools' part to scratch.g_raw. False where the state has none.
template <class S>
bool MixedGraphBackwardCpu<S>::pools_image(int state, int64_t n, Scratch<A>& s) {
  const StateView<S> v = this->view(state);
  bool any = false;
  for (int stride = 1; stride <= 2; ++stride) {
    StatePools<S>& p = this->pools(state, stride);
    if (!p.used) continue;
    const int64_t elements = shape_.B * p.h * p.w * kLanes;
    std::fill_n(s.g_average, elements, A(0));
    std::fill_n(s.g_maximum, elements, A(0));
    for (int e : from_[state]) {
      if (graph_.edges[e].stride != stride) continue;
      for (int i : graph_.edges[e].pools) {
        const Pool& pool = graph_.pools[i];
        const S* y = pool.bn >= 0 ? this->pool_image_of(pool, n) : nullptr;
        k_.add_grad(grad_source(graph_.convs.size() + i, grad_image(graph_.edges[e].node, n), y), shape_.B, p.h * p.w,
                    pool.maximum ? s.g_maximum : s.g_average);
      }
    }
    k_.pools_backward(s.g_average, s.g_maximum, p.taps.template data_ptr<uint8_t>() + n * elements, shape_.B, v.H, v.W,
                      stride, p.h, p.w, s.g_raw);
    any = true;
  }
  return any;
}

template <class S>
void MixedGraphBackwardCpu<S>::prepare_states() {
  this->prepare_pools(true);
  const bool recompute = this->saved_.empty();
  if (recompute)
    this->allocate_saved();
  else
    this->rebuilt_ = cached_empty({layout_.rebuilt_elements}, scalar_type_of<S>());
  for (int state = 0; state < graph_.inputs + graph_.nodes; ++state) {
    if (from_[state].empty()) continue;
    const bool pools = this->has_pools(state);
    // A state at a time over all images, so that its edges' weights stay in the cache.
    each_image([&](int64_t n, int64_t share) {
      Scratch<A>& s = scratch_[share];
      this->load_state_image(state, n, s, pools);
      if (pools) this->pool_image(state, n, s.raw, false);
      this->first_convs(state, n, s, !recompute);
      if (recompute) this->second_stage(state, n, s);
    });
  }
}

template <class S>
void MixedGraphBackwardCpu<S>::node_gradient(int node, int64_t n, int64_t share) {
  const int state = graph_.inputs + node;
  if (!from_[state].empty()) return state_image(state, n, share, true);
  const int64_t stride = graph_.nodes * shape_.C;
  const S* g =
      static_cast<const S*>(back_.grad_out.const_data_ptr()) + n * shape_.out_pixels() * stride + node * shape_.C;
  k_.load_state(g, stride, shape_.C, shape_.h, shape_.w, 0, grad_image(node, n), nullptr);
}

template <class S>
BackwardResult MixedGraphBackwardCpu<S>::run(const at::Tensor& out, const at::Tensor& stats,
                                             const std::vector<at::Tensor>& saved) {
  this->out_ = out;
  this->saved_ = saved;
  this->load_stats(stats);
  prepare_states();
  for (int s = 0; s < graph_.inputs; ++s)
    state_grads_.push_back(back_.want_state[s]
                               ? cached_empty_channels_last(shape_.N, shape_.C, shape_.H, shape_.W, scalar_type_of<S>())
                               : at::Tensor());
  for (int node = graph_.nodes - 1; node >= 0; --node) {
    node_sums(node);
    second_convs(node);
  }
  each_image([&](int64_t n, int64_t share) {
    for (int s = 0; s < graph_.inputs; ++s)
      if (!from_[s].empty() && (back_.want_state[s] || back_.want_params))
        state_image(s, n, share, back_.want_state[s]);
  });
  for (int s = 0; s < graph_.inputs; ++s)
    if (from_[s].empty() && back_.want_state[s]) state_grads_[s].zero_();
  return {state_grads_, alpha_grad_, back_.want_params ? unpack_params() : std::vector<at::Tensor>()};
}

// The gradients of one convolution from the packed ones of every share, added up in the order of the shares.
template <class S>
void MixedGraphBackwardCpu<S>::unpack_conv(int conv, std::vector<at::Tensor>& grads) const {
  const Conv& c = graph_.convs[conv];
  const ConvGeometry& g = layout_.geometry[conv];
  const int64_t C = shape_.C, Cp = shape_.Cp, room = weight_grads_.size(1);
  const A* packed = weight_grads_.template data_ptr<A>();
  const auto total = [&](int64_t at) {
    A sum = packed[at];
    for (int64_t s = 1; s < shares_; ++s) sum += packed[s * room + at];
    return sum;
  };
  if (c.depthwise >= 0) {
    const int64_t taps = g.kernel * g.kernel;
    A* out = grads[c.depthwise].template data_ptr<A>();
    for (int64_t k = 0; k < C; ++k)
      for (int64_t t = 0; t < taps; ++t)
        out[k * taps + t] = total(depthwise_at_[conv] + (k / kLanes * taps + t) * kLanes + k % kLanes);
  }
  const int64_t taps = g.front == Front::kTaps ? g.taps : 1, at = product_at_[conv];
  if (c.product2 < 0) {
    A* out = grads[c.product].template data_ptr<A>();
    for (int64_t o = 0; o < C; ++o)
      for (int64_t t = 0; t < taps; ++t)
        for (int64_t i = 0; i < C; ++i) out[(o * C + i) * taps + t] = total(at + (o * taps + t) * Cp + i);
    return;
  }
  const int64_t half = grads[c.product].size(0);
  for (int64_t o = 0; o < C; ++o) {
    A* out = o < half ? grads[c.product].template data_ptr<A>() + o * C
                      : grads[c.product2].template data_ptr<A>() + (o - half) * C;
    const int64_t tap = o < half ? 0 : 1;
    for (int64_t i = 0; i < C; ++i) out[i] = total(at + (o * taps + tap) * Cp + i);
  }
}

template <class S>
std::vector<at::Tensor> MixedGraphBackwardCpu<S>::unpack_params() const {
  std::vector<at::Tensor> grads;
  const auto options = at::TensorOptions().dtype(scalar_type_of<A>());
  for (const at::Tensor& p : param_shapes_) grads.push_back(at::empty(p.sizes(), options));
  at::parallel_for(0, static_cast<int64_t>(graph_.convs.size()), 4, [&](int64_t begin, int64_t end) {
    for (int64_t i = begin; i < end; ++i) unpack_conv(static_cast<int>(i), grads);
  });
  const auto give_norm = [&](int bn, int gamma, int beta) {
    if (gamma < 0) return;
    grads[gamma].copy_(norm_grads_[bn][0].narrow(0, 0, shape_.C));
    grads[beta].copy_(norm_grads_[bn][1].narrow(0, 0, shape_.C));
  };
  for (const Conv& c : graph_.convs) give_norm(c.bn, c.gamma, c.beta);
  for (const Pool& p : graph_.pools) give_norm(p.bn, p.gamma, p.beta);
  for (size_t i = 0; i < grads.size(); ++i)
    if (param_shapes_[i].scalar_type() != grads[i].scalar_type())
      grads[i] = grads[i].to(param_shapes_[i].scalar_type());
  return grads;
}

template class MixedGraphBackwardCpu<float>;
template class MixedGraphBackwardCpu<double>;
template class MixedGraphBackwardCpu<bf16>;

}  // namespace nasfast::mixed_op
