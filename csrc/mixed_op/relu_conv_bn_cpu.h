// CPU implementation of relu_conv_bn.
#pragma once

#include <functional>

#include "norm_cpu.h"
#include "plan_cpu.h"

namespace nasfast::mixed_op {

// One call. Tensors are checked; x is channels last.
struct ReluConvBnCall {
  at::Tensor x;
  std::vector<at::Tensor> weights, affine;
  double eps;
};

template <class S>
class ReluConvBnCpu {
 public:
  using A = acc_t<S>;
  ReluConvBnCpu(const ReluConvBnCall& call, bool backward);

  // `saved`: y, blocked.
  void forward(at::Tensor& stats, bool batch_stats, at::Tensor& out, at::Tensor& saved);

  struct Grads {
    at::Tensor x;
    std::vector<at::Tensor> weights, affine;  // empty where not wanted
  };
  // `saved` undefined: y is computed again.
  Grads backward(const at::Tensor& grad_out, const at::Tensor& stats, at::Tensor saved, bool batch_stats, bool want_x,
                 bool want_params);

 private:
  NormVectors<A> norm() const;
  const S* x_image(int64_t n) const {
    return static_cast<const S*>(call_.x.const_data_ptr()) + n * g_.H * g_.W * call_.x.size(1);
  }
  S* y_image(const at::Tensor& y, int64_t n) const { return static_cast<S*>(y.data_ptr()) + n * y_elements(); }
  int64_t y_elements() const { return static_cast<int64_t>(g_.blocks_out) * g_.h * g_.w * kLanes; }
  int64_t x_elements() const { return static_cast<int64_t>(g_.blocks_in) * g_.H * g_.W * kLanes; }
  void each_image(bool backward, const std::function<void(int64_t, int64_t, A*)>& f);
  void convolve(const at::Tensor& y, A* partial);
  Grads unpack(const at::Tensor& grad_x, const at::Tensor& product, const at::Tensor& norm_grads,
               bool want_params) const;

  const ReluConvBnCall& call_;
  const int64_t N_, O_, Op_;
  ConvGeometry g_;
  const KernelTable<S>& k_;
  at::Tensor packed_, norm_, gamma_, beta_;
  PackedWeights<A> weights_;
};

}  // namespace nasfast::mixed_op
