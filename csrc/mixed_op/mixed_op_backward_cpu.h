// CPU implementation of the mixed graph's backward.
#pragma once

#include <functional>

#include "mixed_op_cpu.h"

namespace nasfast::mixed_op {

struct BackwardCall {
  at::Tensor grad_out;           // channels last, like out
  bool batch_stats;              // BatchNorm used the batch's own statistics
  std::vector<bool> want_state;  // per input
  bool want_params;
};

struct BackwardResult {
  std::vector<at::Tensor> states;  // undefined where not wanted
  at::Tensor weights;              // [edges, candidates], accumulation type
  std::vector<at::Tensor> params;  // empty where not wanted
};

template <class S>
class MixedGraphBackwardCpu : private MixedGraphCpu<S> {
 public:
  using A = acc_t<S>;
  MixedGraphBackwardCpu(const GraphCall& call, const BackwardCall& back);
  // `saved` empty: the images are computed again.
  BackwardResult run(const at::Tensor& out, const at::Tensor& stats, const std::vector<at::Tensor>& saved);

 private:
  using Base = MixedGraphCpu<S>;
  using Base::from_;
  using Base::graph_;
  using Base::into_;
  using Base::k_;
  using Base::layout_;
  using Base::params_;
  using Base::shape_;

  void each_image(const std::function<void(int64_t, int64_t)>& f);  // (image, share)
  void prepare_states();
  void node_gradient(int node, int64_t n, int64_t share);
  void node_sums(int node);
  void edge_sums(int edge, const at::Tensor& partial, int64_t rows);
  void second_convs(int node);
  void state_image(int state, int64_t n, int64_t share, bool want_input);
  bool pools_image(int state, int64_t n, Scratch<A>& scratch);
  double through_norm(int bn, double w, double count, const double* s0, const double* s1, A* abc);
  GradSource<S> grad_source(int64_t index, const A* g, const S* y) const;
  A* grad_image(int node, int64_t n) const;
  WeightGrads<A> weight_grads(int conv, int64_t share) const;
  void unpack_conv(int conv, std::vector<at::Tensor>& grads) const;
  std::vector<at::Tensor> unpack_params() const;

  const BackwardCall& back_;
  const std::vector<at::Tensor> param_shapes_;
  const int64_t shares_;
  std::vector<Scratch<A>> scratch_;
  std::vector<at::Tensor> node_grad_;  // per node, [N][B][h*w][8]
  std::vector<at::Tensor> gz_;         // per first convolution: gradient behind its BatchNorm
  at::Tensor weight_grads_;            // [shares][all packed weights]
  std::vector<int64_t> depthwise_at_, product_at_;
  at::Tensor alpha_grad_, norm_grads_, coefficients_, mask_sums_;
  std::vector<at::Tensor> state_grads_;
};

}  // namespace nasfast::mixed_op
