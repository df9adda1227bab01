// CPU implementation of the mixed graph: what forward and backward share.
#pragma once

#include "norm_cpu.h"
#include "plan_cpu.h"

namespace nasfast::mixed_op {

// Arguments of one call. Tensors are checked and channels last; weights and stats are in the accumulation type.
struct GraphCall {
  const Graph& graph;
  std::vector<at::Tensor> states;  // [N, C, H, W] each
  at::Tensor weights;              // [edges, candidates]
  std::vector<at::Tensor> params;
  double eps;
};

// Pools of one source state at one stride, shared by every edge that leaves it so.
template <class S>
struct StatePools {
  bool used = false;
  int64_t h = 0, w = 0;
  at::Tensor average, maximum, taps;        // [N][B][h*w][8]; taps for backward only
  at::Tensor average_stats, maximum_stats;  // [N][3][Cp]
};

// A source state as the kernels read it: channels last, `stride` elements between pixels.
template <class S>
struct StateView {
  const S* data;
  ptrdiff_t stride;
  int64_t H, W;
  const S* image(int64_t n) const { return data + n * H * W * stride; }
};

template <class S>
class MixedGraphCpu {
 public:
  using A = acc_t<S>;

  MixedGraphCpu(const GraphCall& call, bool backward);

  // Batch statistics into stats (mean, biased variance: [norms, 2, C]) unless it holds the ones to use.
  void forward(at::Tensor& stats, bool batch_stats, at::Tensor& out, std::vector<at::Tensor>& saved);

 protected:
  void load_stats(const at::Tensor& stats);
  // The first convolutions of the edges that leave a state whose relu'd image is in scratch.
  void first_convs(int state, int64_t n, Scratch<A>& scratch, bool only_rebuilt);
  void second_stage(int state, int64_t n, Scratch<A>& scratch);  // second convolutions of the edges that leave it
  void allocate_saved();
  void prepare_pools(bool taps);
  void pool_image(int state, int64_t n, const A* raw, bool stats);

  S* saved_image(int conv, int64_t n) const {
    const Conv& c = graph_.convs[conv];
    return static_cast<S*>((c.rebuilt ? rebuilt_ : saved_[c.edge]).data_ptr()) + layout_.offset[conv] +
           n * layout_.image_elements[conv];
  }
  StateView<S> view(int state) const;
  const A* weights_of(int edge) const { return weights_.template data_ptr<A>() + edge * graph_.candidates; }
  NormVectors<A> norm(int bn) const;
  StatePools<S>& pools(int state, int stride) { return pools_[state * 2 + stride - 1]; }
  const S* pool_image_of(const Pool& pool, int64_t n);
  // The input of a second convolution, in scratch.
  void load_second_input(int conv, int64_t n, A* padded) const;
  void load_state_image(int state, int64_t n, Scratch<A>& scratch, bool raw) const;
  bool has_pools(int state) { return pools(state, 1).used || pools(state, 2).used; }

  const Graph& graph_;
  const Shape shape_;
  const Layout layout_;
  const KernelTable<S>& k_;
  const PackedParams<A> params_;
  const double eps_;
  const std::vector<at::Tensor> states_;
  const at::Tensor weights_;
  A* norm_rows_ = nullptr;
  at::Tensor norm_, unit_;  // [norms][mean, variance, rstd, scale, shift][Cp]; ones and zeros
  at::Tensor out_;
  std::vector<at::Tensor> saved_;
  at::Tensor rebuilt_;
  std::vector<StatePools<S>> pools_;
  std::vector<std::vector<int>> from_, into_;

 private:
  void state_stage(int state, int64_t n, Scratch<A>& scratch);  // all that needs only the state
  void node_stage(int node, int64_t n);
  void finish(int state, bool second);
  void settle(const A* partial, int64_t image_pixels, int bn);
  void prepare_node(int node);
  A* partial_image(int conv, int64_t n) const;

  bool batch_stats_ = false;
  at::Tensor partial_, node_scale_, node_shift_;
};

}  // namespace nasfast::mixed_op
