// Forward of the mixed graph on CUDA: per source state one launch for all first convolutions and one for the statistics
// of its pools, one for all second convolutions, and one per node. The inputs of a cell go together.
#include "mixed_op_device_cuda.h"

#include <algorithm>

#include "kernels_cuda.h"

namespace nasfast::mixed_op {
namespace {

// An upper bound on the reductions of one call.
int64_t counter_room(const Graph& graph, int64_t C) {
  const int64_t groups = graph.convs.size() + 2 * graph.pools.size() + graph.inputs + graph.nodes;
  return 4 * groups * ceil_div(C, kChunk) + 4 * static_cast<int64_t>(graph.edges.size()) + 16;
}

}  // namespace

template <class S>
DeviceGraph<S>::DeviceGraph(const DeviceGraphCall& call)
    : graph_(call.graph),
      device_(call.device),
      state_tensors_(call.states),
      weight_tensor_(call.weights),
      params_(call.device, call.params),
      eps_(call.eps),
      N_(call.states[0].size(0)),
      C_(call.states[0].size(1)),
      H_(call.states[0].size(2)),
      W_(call.states[0].size(3)),
      h_(ceil_div(H_, call.graph.input_stride())),
      w_(ceil_div(W_, call.graph.input_stride())),
      weights_(device_.read<float>(weight_tensor_)),
      counters_(std::make_unique<Counters>(device_, counter_room(graph_, C_))) {
  lay_out();
  for (const at::Tensor& t : state_tensors_) inputs_.push_back(device_.read<S>(t));
  for (int s = 0; s < states(); ++s) from_.push_back(graph_.edges_from(s));
  for (int n = 0; n < graph_.nodes; ++n) into_.push_back(graph_.edges_into(n));
}

// Shapes of all convolutions, and where each y lies in what its edge saves.
template <class S>
void DeviceGraph<S>::lay_out() {
  std::vector<int64_t> edges(graph_.edges.size(), 0);
  for (const Conv& conv : graph_.convs) {
    const bool first = conv.input == kFromState, from_input = is_input(graph_.edges[conv.edge].source);
    const int64_t rows = !first ? shapes_[conv.input].h : from_input ? H_ : h_;
    const int64_t columns = !first ? shapes_[conv.input].w : from_input ? W_ : w_;
    shapes_.push_back(shape_of_conv(conv, C_, rows, columns));
    offset_.push_back(edges[conv.edge]);
    edges[conv.edge] += static_cast<int64_t>(shapes_.back().h) * shapes_.back().w * C_;
  }
}

template <class S>
void DeviceGraph<S>::set_stats(const at::Tensor& stats, bool writable) {
  stats_ = writable ? device_.write<float>(stats) : const_cast<float*>(device_.read<float>(stats));
}

template <class S>
void DeviceGraph<S>::set_saved(const std::vector<at::Tensor>& saved, bool writable) {
  saved_tensors_ = saved;
  saved_.clear();
  for (const at::Tensor& t : saved_tensors_)
    saved_.push_back(writable ? device_.write<S>(t) : const_cast<S*>(device_.read<S>(t)));
}

template <class S>
void DeviceGraph<S>::allocate_saved() {
  std::vector<at::Tensor> saved;
  for (int64_t elements : saved_elements(graph_, C_, H_, W_)) saved.push_back(device_.empty({N_ * elements}, kStorage));
  set_saved(saved, true);
}

template <class S>
View DeviceGraph<S>::state_view(int state) const {
  if (is_input(state)) return view_of<S>(inputs_[state], H_, W_, C_, C_);
  return view_of<S>(out_ + (state - graph_.inputs) * C_, h_, w_, C_, graph_.nodes * C_);
}

template <class S>
View DeviceGraph<S>::y_view(int conv) const {
  const ConvShape& s = shapes_[conv];
  return view_of<S>(saved_[graph_.convs[conv].edge] + N_ * offset_[conv], s.h, s.w, C_, C_);
}

template <class S>
NormView DeviceGraph<S>::norm(int bn, int gamma, int beta) const {
  if (bn < 0) return {};
  return {stats_ + static_cast<int64_t>(bn) * 2 * C_, params_.view(gamma), params_.view(beta)};
}

template <class S>
Conv2d DeviceGraph<S>::conv2d(int conv) const {
  const Conv& c = graph_.convs[conv];
  Conv2d out{};
  out.shape = shapes_[conv];
  if (c.input == kFromState) {
    out.in = state_view(graph_.edges[c.edge].source);
    out.mode = Input::kRelu;
  } else {
    const Conv& before = graph_.convs[c.input];
    out.in = y_view(c.input);
    out.mode = c.input_norm ? Input::kNormRelu : Input::kPlain;
    out.norm = norm(before.bn, before.gamma, before.beta);
  }
  out.depthwise = params_.view(c.depthwise);
  out.product = params_.view(c.product);
  out.product2 = params_.view(c.product2);
  return out;
}

template <class S>
std::vector<PlannedConv> DeviceGraph<S>::convs_of(int first, int last, Stage stage, bool statistics) const {
  std::vector<PlannedConv> out;
  for (int state = first; state <= last; ++state)
    for (int e : from_[state])
      for (int i : graph_.edges[e].convs) {
        const Conv& c = graph_.convs[i];
        if ((c.input == kFromState) != (stage == Stage::kFirst)) continue;
        float* stats = statistics && c.bn >= 0 ? stats_ + static_cast<int64_t>(c.bn) * 2 * C_ : nullptr;
        out.push_back({{conv2d(i), y_view(i), nullptr, stats}, stage == Stage::kFirst ? e : -1 - i});
      }
  return out;
}

template <class S>
void DeviceGraph<S>::pool_statistics(int first, int last) {
  PoolArgs args{};
  args.N = checked_int("pool_statistics", "batch", N_);
  int norms = 0;
  int64_t blocks = 0;
  bool vector = true;
  std::vector<at::Tensor> partials;
  const auto flush = [&] {
    launch_pool_statistics<S>(args, vector, blocks, device_.stream());
    args.states = norms = 0;
    blocks = 0;
    vector = true;
  };
  for (int s = first; s <= last; ++s) {
    PoolState pools{};
    pools.first_norm = norms;
    for (int e : from_[s])
      for (int i : graph_.edges[e].pools) {
        const Pool& pool = graph_.pools[i];
        if (pool.bn < 0) continue;
        TORCH_CHECK(norms < kMaxPoolNorms, "mixed_op: a state must have at most ", kMaxPoolNorms,
                    " pools behind it on CUDA");
        args.norm[norms++] = {pool.maximum, stats_ + static_cast<int64_t>(pool.bn) * 2 * C_};
        pools.stride = graph_.edges[e].stride;
      }
    pools.norms = norms - pools.first_norm;
    if (pools.norms == 0) continue;
    pools.x = state_view(s);
    pools.h = static_cast<int>(h_);
    pools.w = static_cast<int>(w_);
    pools.runs = runs_of_pixels(N_ * h_ * w_);
    pools.block = checked_int("pool_statistics", "blocks", blocks);
    partials.push_back(device_.empty({pools.runs, 8, C_}, at::kFloat));
    pools.partial = device_.write<float>(partials.back());
    const int64_t groups = ceil_div(C_, 64);
    pools.counters = counters_->take(groups);
    vector = vector && pools.x.vector;
    args.state[args.states++] = pools;
    blocks += groups * pools.runs;
    if (args.states == kMaxPoolStates || norms > kMaxPoolNorms / 2) flush();
  }
  if (args.states > 0) flush();
}

namespace {

// Collects the rows of a node, and launches whenever the arguments are full.
template <class S>
class NodeBuilder {
 public:
  NodeBuilder(const View& out, int64_t N, double eps, cudaStream_t stream) : stream_(stream) {
    args_.out = out;
    args_.N = checked_int("node_sum", "batch", N);
    args_.eps = static_cast<float>(eps);
  }
  void image(const View& y, const NodeTerm& term) {
    if (args_.images == kMaxNodeImages || args_.terms == kMaxNodeTerms) launch();
    args_.image[args_.images++] = y;
    add_row({term});
  }
  // All images come before all states. Pools' and skips' terms.
  void state(const View& x, int stride, const std::vector<NodeTerm>& average, const std::vector<NodeTerm>& maximum,
             const std::vector<NodeTerm>& skip) {
    const size_t terms = average.size() + maximum.size() + skip.size();
    if (terms == 0) return;
    TORCH_CHECK(terms <= kMaxNodeTerms, "mixed_op: a node must have at most ", kMaxNodeTerms,
                " pools and skips of one state on CUDA");
    if (args_.states == kMaxNodeStates || args_.terms + terms > kMaxNodeTerms) launch();
    args_.state[args_.states++] = {x, stride, add_row(average), add_row(maximum), add_row(skip)};
  }
  void finish() {
    if (args_.terms > 0 || !args_.add) launch();
  }

 private:
  int add_row(const std::vector<NodeTerm>& terms) {
    if (terms.empty()) return -1;
    for (const NodeTerm& t : terms) args_.term[args_.terms++] = t;
    args_.first_term[++args_.rows] = static_cast<short>(args_.terms);
    return args_.rows - 1;
  }
  void launch() {
    bool vector = args_.out.vector;
    for (int i = 0; i < args_.images; ++i) vector = vector && args_.image[i].vector;
    for (int i = 0; i < args_.states; ++i) vector = vector && args_.state[i].x.vector;
    launch_node_sum<S>(args_, vector, kMaxBlocks, stream_);
    args_.images = args_.states = args_.rows = args_.terms = 0;
    args_.add = true;
  }

  static constexpr int64_t kMaxBlocks = 4096;  // each works out the scales once
  NodeArgs args_{};
  cudaStream_t stream_;
};

}  // namespace

template <class S>
void DeviceGraph<S>::sum_node(int node) {
  NodeBuilder<S> builder(state_view(graph_.inputs + node), N_, eps_, device_.stream());
  for (int e : into_[node])
    for (int i : graph_.edges[e].convs) {
      const Conv& c = graph_.convs[i];
      if (c.output) builder.image(y_view(i), {weight(e, c.candidate), norm(c.bn, c.gamma, c.beta)});
    }
  for (int s = 0; s < graph_.inputs + node; ++s) {
    std::vector<NodeTerm> average, maximum, skip;
    int stride = 1;
    for (int e : into_[node]) {
      const Edge& edge = graph_.edges[e];
      if (edge.source != s) continue;
      stride = edge.stride;
      for (int i : edge.pools) {
        const Pool& p = graph_.pools[i];
        (p.maximum ? maximum : average).push_back({weight(e, p.candidate), norm(p.bn, p.gamma, p.beta)});
      }
      if (edge.skip >= 0) skip.push_back({weight(e, edge.skip), {}});
    }
    builder.state(state_view(s), stride, average, maximum, skip);
  }
  builder.finish();
}

template <class S>
void DeviceGraph<S>::forward(const at::Tensor& stats, bool batch_stats, at::Tensor& out,
                             std::vector<at::Tensor>& saved) {
  set_stats(stats, batch_stats);
  allocate_saved();
  out = device_.empty_channels_last(N_, graph_.nodes * C_, h_, w_, kStorage);
  out_ = device_.write<S>(out);
  const auto leave = [&](int first, int last) {
    run_forward_convs<S>(device_, *counters_, convs_of(first, last, Stage::kFirst, batch_stats), N_, eps_);
    if (batch_stats) pool_statistics(first, last);
    run_forward_convs<S>(device_, *counters_, convs_of(first, last, Stage::kSecond, batch_stats), N_, eps_);
  };
  leave(0, graph_.inputs - 1);
  for (int node = 0; node < graph_.nodes; ++node) {
    sum_node(node);
    leave(graph_.inputs + node, graph_.inputs + node);
  }
  saved = saved_tensors_;
}

template class DeviceGraph<float>;
template class DeviceGraph<bf16_t>;
template class DeviceGraph<half_t>;

}  // namespace nasfast::mixed_op
