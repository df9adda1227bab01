// Forward of the mixed graph on the CPU.
//
// States are worked off in order. For one image of a state: its relu and pools once, then the first convolution of
// every candidate on every edge that leaves it. BatchNorm needs the whole batch, so a pass over the images ends there;
// the next one runs the second convolutions, and the one after it sums a node and goes on with that node's own edges.
// Statistics are kept per image and combined in order in float64: results do not depend on the number of threads.
#include "mixed_op_cpu.h"

namespace nasfast::mixed_op {

template <class S>
MixedGraphCpu<S>::MixedGraphCpu(const GraphCall& call, bool backward)
    : graph_(call.graph),
      shape_(shape_of(call.graph, call.states)),
      layout_(call.graph, shape_),
      k_(kernel_table<S>()),
      params_(call.graph, layout_, shape_.C, call.params, backward),
      eps_(call.eps),
      states_(call.states),
      weights_(call.weights),
      pools_(2 * (call.graph.inputs + call.graph.nodes)) {
  const auto options = at::TensorOptions().dtype(scalar_type_of<A>());
  norm_ = at::zeros({std::max(graph_.norms, 1), 5, shape_.Cp}, options);
  norm_rows_ = norm_.template data_ptr<A>();
  unit_ = at::zeros({2, shape_.Cp}, options);
  unit_[0].fill_(1);
  for (int s = 0; s < graph_.inputs + graph_.nodes; ++s) from_.push_back(graph_.edges_from(s));
  for (int n = 0; n < graph_.nodes; ++n) into_.push_back(graph_.edges_into(n));
}

template <class S>
StateView<S> MixedGraphCpu<S>::view(int state) const {
  if (state < graph_.inputs)
    return {static_cast<const S*>(states_[state].const_data_ptr()), static_cast<ptrdiff_t>(shape_.C), shape_.H,
            shape_.W};
  const int node = state - graph_.inputs;
  return {static_cast<const S*>(out_.const_data_ptr()) + node * shape_.C,
          static_cast<ptrdiff_t>(graph_.nodes * shape_.C), shape_.h, shape_.w};
}

template <class S>
void MixedGraphCpu<S>::prepare_pools(bool taps) {
  const auto storage = scalar_type_of<S>();
  for (const Pool& pool : graph_.pools) {
    const Edge& edge = graph_.edges[pool.edge];
    StatePools<S>& p = pools(edge.source, edge.stride);
    if (p.used) continue;
    const StateView<S> v = view(edge.source);
    p.used = true;
    p.h = ceil_div(v.H, edge.stride);
    p.w = ceil_div(v.W, edge.stride);
    const std::vector<int64_t> sizes = {shape_.N, shape_.B, p.h * p.w, kLanes};
    p.average = cached_empty(sizes, storage);
    p.maximum = cached_empty(sizes, storage);
    if (taps) p.taps = cached_empty(sizes, at::kByte);
    p.average_stats = at::empty({shape_.N, 3, shape_.Cp}, weights_.options());
    p.maximum_stats = at::empty({shape_.N, 3, shape_.Cp}, weights_.options());
  }
}

template <class S>
void MixedGraphCpu<S>::pool_image(int state, int64_t n, const A* raw, bool stats) {
  const StateView<S> v = view(state);
  for (int stride = 1; stride <= 2; ++stride) {
    StatePools<S>& p = pools(state, stride);
    if (!p.used) continue;
    const int64_t at = n * shape_.B * p.h * p.w * kLanes, stat_at = n * 3 * shape_.Cp;
    k_.pools_forward(raw, shape_.B, v.H, v.W, stride, p.h, p.w, static_cast<S*>(p.average.data_ptr()) + at,
                     static_cast<S*>(p.maximum.data_ptr()) + at,
                     stats ? p.average_stats.template data_ptr<A>() + stat_at : nullptr,
                     stats ? p.maximum_stats.template data_ptr<A>() + stat_at : nullptr,
                     p.taps.defined() ? p.taps.template data_ptr<uint8_t>() + at : nullptr);
  }
}

template <class S>
const S* MixedGraphCpu<S>::pool_image_of(const Pool& pool, int64_t n) {
  const Edge& edge = graph_.edges[pool.edge];
  const StatePools<S>& p = pools(edge.source, edge.stride);
  return static_cast<const S*>((pool.maximum ? p.maximum : p.average).const_data_ptr()) +
         n * shape_.B * p.h * p.w * kLanes;
}

template <class S>
void MixedGraphCpu<S>::load_state_image(int state, int64_t n, Scratch<A>& scratch, bool raw) const {
  const StateView<S> v = view(state);
  k_.load_state(v.image(n), v.stride, shape_.C, v.H, v.W, graph_.pad, raw ? scratch.raw : nullptr, scratch.relu);
}

template <class S>
void MixedGraphCpu<S>::load_second_input(int conv, int64_t n, A* padded) const {
  const Conv& c = graph_.convs[conv];
  const ConvGeometry& g = layout_.geometry[conv];
  const A *scale = unit_.template data_ptr<A>(), *shift = scale + shape_.Cp;
  if (c.input_norm) {
    const NormVectors<A> v = norm(graph_.convs[c.input].bn);
    scale = v.scale;
    shift = v.shift;
  }
  k_.load_affine(saved_image(c.input, n), scale, shift, c.input_norm, shape_.C, g.H, g.W, g.pad, padded);
}

template <class S>
typename MixedGraphCpu<S>::A* MixedGraphCpu<S>::partial_image(int conv, int64_t n) const {
  if (!batch_stats_ || graph_.convs[conv].bn < 0) return nullptr;
  return partial_.template data_ptr<A>() + (conv * shape_.N + n) * 3 * shape_.Cp;
}

template <class S>
void MixedGraphCpu<S>::state_stage(int state, int64_t n, Scratch<A>& scratch) {
  if (from_[state].empty()) return;
  const bool raw = has_pools(state);
  load_state_image(state, n, scratch, raw);
  if (raw) pool_image(state, n, scratch.raw, batch_stats_);
  first_convs(state, n, scratch, false);
}

template <class S>
void MixedGraphCpu<S>::first_convs(int state, int64_t n, Scratch<A>& scratch, bool only_rebuilt) {
  for (int e : from_[state])
    for (int i : graph_.edges[e].convs)
      if (graph_.convs[i].input == kFromState && (graph_.convs[i].rebuilt || !only_rebuilt))
        k_.conv_forward(layout_.geometry[i], scratch.relu, params_.convs[i], scratch.tile, saved_image(i, n),
                        partial_image(i, n));
}

template <class S>
void MixedGraphCpu<S>::second_stage(int state, int64_t n, Scratch<A>& scratch) {
  for (int e : from_[state])
    for (int i : graph_.edges[e].convs) {
      if (graph_.convs[i].input == kFromState) continue;
      load_second_input(i, n, scratch.relu);
      k_.conv_forward(layout_.geometry[i], scratch.relu, params_.convs[i], scratch.tile, saved_image(i, n),
                      partial_image(i, n));
    }
}

template <class S>
NormVectors<typename MixedGraphCpu<S>::A> MixedGraphCpu<S>::norm(int bn) const {
  A* rows = norm_rows_ + bn * 5 * shape_.Cp;
  const auto row = [&](int i) { return rows + i * shape_.Cp; };
  return {row(0),
          row(1),
          params_.gamma[bn].defined() ? params_.gamma[bn].template data_ptr<A>() : nullptr,
          params_.beta[bn].defined() ? params_.beta[bn].template data_ptr<A>() : nullptr,
          row(2),
          row(3),
          row(4)};
}

template <class S>
void MixedGraphCpu<S>::settle(const A* partial, int64_t image_pixels, int bn) {
  A* rows = norm_rows_ + bn * 5 * shape_.Cp;
  combine_stats(partial, shape_.N, shape_.Cp, image_pixels, rows, rows + shape_.Cp);
  norm_coefficients(norm(bn), eps_, shape_.C, shape_.Cp);
}

// `stats`: [norms, 2, C].
template <class S>
void MixedGraphCpu<S>::load_stats(const at::Tensor& stats) {
  norm_.narrow(0, 0, graph_.norms).narrow(1, 0, 2).narrow(2, 0, shape_.C).copy_(stats);
  for (int bn = 0; bn < graph_.norms; ++bn) norm_coefficients(norm(bn), eps_, shape_.C, shape_.Cp);
}

template <class S>
void MixedGraphCpu<S>::finish(int state, bool second) {
  if (!batch_stats_) return;
  for (int e : from_[state]) {
    for (int i : graph_.edges[e].convs) {
      const Conv& c = graph_.convs[i];
      const ConvGeometry& g = layout_.geometry[i];
      if ((c.input != kFromState) != second || c.bn < 0) continue;
      settle(partial_image(i, 0), static_cast<int64_t>(g.h) * g.w, c.bn);
    }
    for (int i : graph_.edges[e].pools) {
      const Pool& pool = graph_.pools[i];
      if (second || pool.bn < 0) continue;
      const StatePools<S>& p = pools(graph_.edges[e].source, graph_.edges[e].stride);
      settle((pool.maximum ? p.maximum_stats : p.average_stats).template data_ptr<A>(), p.h * p.w, pool.bn);
    }
  }
}

// Architecture weight times BatchNorm for every image that a node sums: one multiply-add each.
template <class S>
void MixedGraphCpu<S>::prepare_node(int node) {
  const int64_t Cp = shape_.Cp, convs = graph_.convs.size();
  A* total = node_shift_.template data_ptr<A>() + node * Cp;
  std::fill(total, total + Cp, A(0));
  const auto place = [&](int64_t index, int bn, A w) {
    A* out = node_scale_.template data_ptr<A>() + index * Cp;
    if (bn < 0) return void(std::fill(out, out + Cp, w));
    const NormVectors<A> v = norm(bn);
    for (int64_t c = 0; c < Cp; ++c) {
      out[c] = w * v.scale[c];
      total[c] += w * v.shift[c];
    }
  };
  for (int e : into_[node]) {
    for (int i : graph_.edges[e].convs) {
      const Conv& c = graph_.convs[i];
      if (c.output) place(i, c.bn, weights_of(e)[c.candidate]);
    }
    for (int i : graph_.edges[e].pools) place(convs + i, graph_.pools[i].bn, weights_of(e)[graph_.pools[i].candidate]);
  }
}

template <class S>
void MixedGraphCpu<S>::node_stage(int node, int64_t n) {
  const int64_t Cp = shape_.Cp;
  const A* scales = node_scale_.template data_ptr<A>();
  std::vector<NodeInput<S>> inputs;
  std::vector<SkipInput<S>> skips;
  for (int e : into_[node]) {
    const Edge& edge = graph_.edges[e];
    for (int i : edge.convs)
      if (graph_.convs[i].output) inputs.push_back({saved_image(i, n), scales + i * Cp});
    for (int i : edge.pools)
      inputs.push_back({pool_image_of(graph_.pools[i], n), scales + (graph_.convs.size() + i) * Cp});
    if (edge.skip >= 0) {
      const StateView<S> v = view(edge.source);
      skips.push_back({v.image(n), v.stride, weights_of(e)[edge.skip]});
    }
  }
  const StateView<S> target = view(graph_.inputs + node);
  k_.node_sum(inputs.data(), inputs.size(), skips.data(), skips.size(), node_shift_.template data_ptr<A>() + node * Cp,
              shape_.C, shape_.out_pixels(), const_cast<S*>(target.image(n)), target.stride);
}

template <class S>
void MixedGraphCpu<S>::allocate_saved() {
  saved_.clear();
  rebuilt_ = cached_empty({layout_.rebuilt_elements}, scalar_type_of<S>());
  for (int64_t elements : layout_.edge_elements) saved_.push_back(cached_empty({elements}, scalar_type_of<S>()));
}

template <class S>
void MixedGraphCpu<S>::forward(at::Tensor& stats, bool batch_stats, at::Tensor& out, std::vector<at::Tensor>& saved) {
  batch_stats_ = batch_stats;
  out = out_ = cached_empty_channels_last(shape_.N, graph_.nodes * shape_.C, shape_.h, shape_.w, scalar_type_of<S>());
  allocate_saved();
  prepare_pools(false);
  const auto options = weights_.options();
  partial_ = at::empty({batch_stats ? static_cast<int64_t>(graph_.convs.size()) : 0, shape_.N, 3, shape_.Cp}, options);
  node_scale_ = at::zeros({static_cast<int64_t>(graph_.convs.size() + graph_.pools.size()), shape_.Cp}, options);
  node_shift_ = at::empty({graph_.nodes, shape_.Cp}, options);
  if (!batch_stats) load_stats(stats);

  const int64_t shares = image_shares(shape_.N);
  std::vector<Scratch<A>> scratch;
  for (int64_t s = 0; s < shares; ++s) scratch.emplace_back(layout_, false);
  const auto each_image = [&](const auto& f) {
    for_image_shares(shape_.N, shares, [&](int64_t share, int64_t begin, int64_t end) {
      for (int64_t n = begin; n < end; ++n) f(n, scratch[share]);
    });
  };
  // A node from the images that flow into it, then its own candidates; the inputs come in one pass.
  const auto states_pass = [&](int first, int last, int node) {
    each_image([&](int64_t n, Scratch<A>& s) {
      if (node >= 0) node_stage(node, n);
      for (int state = first; state <= last; ++state) state_stage(state, n, s);
    });
    for (int state = first; state <= last; ++state) finish(state, false);
    each_image([&](int64_t n, Scratch<A>& s) {
      for (int state = first; state <= last; ++state) second_stage(state, n, s);
    });
    for (int state = first; state <= last; ++state) finish(state, true);
  };
  states_pass(0, graph_.inputs - 1, -1);
  for (int node = 0; node < graph_.nodes; ++node) {
    prepare_node(node);
    states_pass(graph_.inputs + node, graph_.inputs + node, node);
  }
  if (batch_stats) stats = norm_.narrow(1, 0, 2).narrow(2, 0, shape_.C).narrow(0, 0, graph_.norms).clone();
  saved = saved_;
}

template class MixedGraphCpu<float>;
template class MixedGraphCpu<double>;
template class MixedGraphCpu<bf16>;

}  // namespace nasfast::mixed_op
