// CUDA implementation of the mixed graph's backward.
#pragma once

#include "backward_plan_cuda.h"
#include "mixed_op_device_cuda.h"

namespace nasfast::mixed_op {

struct DeviceBackwardCall {
  at::Tensor grad_out;           // channels last, like out
  bool batch_stats;              // BatchNorm used the batch's own statistics
  std::vector<bool> want_state;  // per input
  bool want_params;
};

struct DeviceBackwardResult {
  std::vector<at::Tensor> states;  // undefined where not wanted
  at::Tensor weights;              // [edges, candidates], float32
  std::vector<at::Tensor> params;  // empty where not wanted
};

template <class S>
class DeviceGraphBackward : private DeviceGraph<S> {
 public:
  DeviceGraphBackward(const DeviceGraphCall& call, const DeviceBackwardCall& back);
  // `saved` empty: the images are computed again.
  DeviceBackwardResult run(const at::Tensor& out, const at::Tensor& stats, const std::vector<at::Tensor>& saved);

 private:
  using Base = DeviceGraph<S>;
  using Base::C_;
  using Base::device_;
  using Base::from_;
  using Base::graph_;
  using Base::h_;
  using Base::into_;
  using Base::N_;
  using Base::shapes_;
  using Base::w_;

  void recompute();
  void node_gradient(int node);
  void products(int node);
  void second_convs(int node);
  void input_gradients();
  InputWork state_work(int state, const View& out, const View& extra, bool wanted);
  BackwardConv backward_conv(int conv, const View& g);
  ProductRow product_row(RowKind kind, const View& x, int edge, int candidate, int bn, int gamma, int beta, int slot);
  void run_works(std::vector<InputWork> works);
  ParamView grad_view(int param) const;
  View grad_out_view(int node) const;
  float* coefficients(int slot) const { return coefficients_ + static_cast<int64_t>(slot) * 3 * C_; }
  int pool_slot(int pool) const { return static_cast<int>(graph_.convs.size()) + pool; }

  const DeviceBackwardCall& back_;
  const S* grad_out_;
  at::Tensor coefficient_tensor_, alpha_grads_;
  float *coefficients_, *alpha_;
  std::vector<at::Tensor> param_grads_;
  std::vector<at::Tensor> node_grad_tensors_, gz_tensors_, state_grads_;
  std::vector<View> node_grad_;  // per node
  WeightSums weight_sums_;
};

}  // namespace nasfast::mixed_op
