// CUDA implementation of the mixed graph: what forward and backward share, and the forward.
#pragma once

#include <memory>

#include "launch_plan_cuda.h"

namespace nasfast::mixed_op {

// Arguments of one call. Tensors are checked; states are channels last, weights float32 and contiguous.
struct DeviceGraphCall {
  const Graph& graph;
  const DeviceCall& device;
  std::vector<at::Tensor> states;
  at::Tensor weights;
  std::vector<at::Tensor> params;
  double eps;
};

template <class S>
class DeviceGraph {
 public:
  explicit DeviceGraph(const DeviceGraphCall& call);

  // stats [norms, 2, C]: receives the batch's statistics, or holds the ones to use.
  void forward(const at::Tensor& stats, bool batch_stats, at::Tensor& out, std::vector<at::Tensor>& saved);

 protected:
  static constexpr at::ScalarType kStorage = ScalarTypeOf<S>::value;
  enum class Stage { kFirst, kSecond };

  void lay_out();
  void set_stats(const at::Tensor& stats, bool writable);
  void set_saved(const std::vector<at::Tensor>& saved, bool writable);
  void allocate_saved();
  // Convolutions of the edges that leave states [first, last].
  std::vector<PlannedConv> convs_of(int first, int last, Stage stage, bool statistics) const;
  void pool_statistics(int first, int last);
  void sum_node(int node);

  View state_view(int state) const;
  View y_view(int conv) const;
  NormView norm(int bn, int gamma, int beta) const;
  Conv2d conv2d(int conv) const;
  const float* weight(int edge, int candidate) const { return weights_ + edge * graph_.candidates + candidate; }
  int states() const { return graph_.inputs + graph_.nodes; }
  bool is_input(int state) const { return state < graph_.inputs; }

  const Graph& graph_;
  const DeviceCall& device_;
  const std::vector<at::Tensor> state_tensors_;
  const at::Tensor weight_tensor_;
  const Params params_;
  const double eps_;
  int64_t N_, C_, H_, W_, h_, w_;
  const float* weights_;
  float* stats_ = nullptr;
  S* out_ = nullptr;
  std::vector<const S*> inputs_;
  std::vector<ConvShape> shapes_;  // per convolution
  std::vector<int64_t> offset_;    // of its y in its edge's tensor, in elements per batch image
  std::vector<S*> saved_;          // per edge
  std::vector<at::Tensor> saved_tensors_;
  std::vector<std::vector<int>> from_, into_;
  std::unique_ptr<Counters> counters_;
};

}  // namespace nasfast::mixed_op
