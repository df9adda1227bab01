// Weights of the units in use as the kernels take them, and their gradients on the way back.
//
// A unit may use less than its parameters hold (elastic width and kernel size): the first channels, and the middle of
// the kernel. Gradients are added to the same part; the rest stays zero.
#pragma once

#include "../aten/tensor.h"

#include "tape.h"

namespace nasfast::supernet {

template <class A>
constexpr at::ScalarType scalar_type() {
  return std::is_same_v<A, double> ? at::kDouble : at::kFloat;
}

// [out][in][ky][kx] of a convolution's parameter, from the first tap that a unit uses.
template <class A>
struct WeightView {
  A* data;
  int64_t out, in, row, column;  // strides
  int64_t tap(int t, int kernel) const { return t / kernel * row + t % kernel * column; }
};

template <class A>
WeightView<A> weight_view(const at::Tensor& t, const Unit& u) {
  A* data = static_cast<A*>(const_cast<void*>(t.const_data_ptr()));
  if (u.kind == UnitKind::kHead) return {data, t.stride(0), t.stride(1), 0, 0};
  const int64_t at = (t.size(2) - u.kernel) / 2;
  return {data + at * (t.stride(2) + t.stride(3)), t.stride(0), t.stride(1), t.stride(2), t.stride(3)};
}

template <class A>
struct PackedUnit {
  A *weight = nullptr, *grad = nullptr;  // of the forward; of the gradient of the input
  A* bias = nullptr;
};

template <class A>
class Bank {
 public:
  // `used`: by unit. `params` are checked.
  Bank(const Program& program, const std::vector<uint8_t>& used, at::TensorList params, bool backward);
  const PackedUnit<A>& operator[](const Unit* unit) const { return packed_[unit - units_]; }

 private:
  const Unit* units_;
  std::vector<PackedUnit<A>> packed_;
  at::Tensor storage_;
};

// Elements of a unit's packed weight gradient: dense [KB][taps][8 in][NB*8], depthwise [B][taps][8].
inline int64_t grad_elements(const Unit& u) {
  const int64_t taps = static_cast<int64_t>(u.kernel) * u.kernel, in = padded_channels(u.c_in);
  return u.kind == UnitKind::kDepthwise ? in * taps : in * taps * padded_channels(u.c_out);
}

// grad += the sum of `copies` packed gradients, for one input block.
template <class A>
void add_packed_grad(const Unit& u, int64_t block, const A* packed, int64_t copies, const WeightView<A>& grad);

}  // namespace nasfast::supernet
