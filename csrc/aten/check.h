// Argument checks and dtype dispatch that the fronts share. Messages read "op: argument must <expected>, got <value>".
#pragma once

#include "tensor.h"

#include "../core/types.h"

namespace nasfast {

// What an op says where its gradient is to be differentiated.
inline constexpr char kNoSecondDerivative[] =
    "cannot be differentiated twice (create_graph=True); nasfast.restore(model) undoes nasfast.accelerate, and "
    "nasfast.nn.cells has the modules in plain PyTorch";

// Storage types that the kernels of a device have.
enum class Kernels { kCpu, kCuda };

inline void check_storage(const char* op, at::ScalarType dtype, Kernels kernels) {
  const bool both = dtype == at::kFloat || dtype == at::kBFloat16;
  if (kernels == Kernels::kCpu) {
    TORCH_CHECK(both || dtype == at::kDouble, op, ": states must be float32, float64 or bfloat16, got ", dtype);
  } else {
    TORCH_CHECK(both || dtype == at::kHalf, op, ": states must be float32, bfloat16 or float16 on CUDA, got ", dtype,
                dtype == at::kDouble ? "; float64 is computed on the CPU only" : "");
  }
}

// Equal 4-dimensional floating-point tensors.
inline void check_states(const char* op, at::TensorList states, Kernels kernels) {
  const at::Tensor& x = states[0];
  for (size_t i = 0; i < states.size(); ++i) {
    const at::Tensor& s = states[i];
    TORCH_CHECK(s.dim() == 4, op, ": states[", i, "] must be [N, C, H, W], got ", s.dim(), " dimensions");
    TORCH_CHECK(s.sizes() == x.sizes(), op, ": states must have one shape, got ", x.sizes(), " and ", s.sizes());
    TORCH_CHECK(s.scalar_type() == x.scalar_type(), op, ": states must have one dtype, got ", x.scalar_type(), " and ",
                s.scalar_type());
    TORCH_CHECK(s.device() == x.device(), op, ": states must be on one device, got ", x.device(), " and ", s.device());
    TORCH_CHECK(s.layout() == at::kStrided, op, ": states must be dense (strided), got ", s.layout());
  }
  check_storage(op, x.scalar_type(), kernels);
}

inline void check_stats(const char* op, const std::optional<at::Tensor>& stats, int64_t norms, int64_t channels) {
  if (!stats.has_value()) return;
  TORCH_CHECK(stats->sizes() == at::IntArrayRef({norms, 2, channels}), op, ": stats must be [", norms, ", 2, ",
              channels, "], got ", stats->sizes());
  TORCH_CHECK(at::isFloatingType(stats->scalar_type()), op, ": stats must be floating point, got ",
              stats->scalar_type());
}

// The tensor with its channels contiguous per pixel, also where torch's own test is ambiguous (C = 1, H = W = 1).
inline at::Tensor channels_last(const at::Tensor& t) {
  const int64_t C = t.size(1), H = t.size(2), W = t.size(3);
  const std::vector<int64_t> strides = {H * W * C, 1, W * C, C};
  if (t.strides() == at::IntArrayRef(strides)) return t;
  at::Tensor out = at::empty_strided(t.sizes(), strides, t.options());
  return out.copy_(t);
}

// Calls f.operator()<S>() with the storage type of a dtype.
template <class F>
auto dispatch_storage(const char* op, at::ScalarType dtype, F&& f) {
  switch (dtype) {
    case at::kFloat:
      return f.template operator()<float>();
    case at::kDouble:
      return f.template operator()<double>();
    case at::kBFloat16:
      return f.template operator()<bf16>();
    default:
      TORCH_CHECK(false, op, ": dtype must be float32, float64 or bfloat16, got ", dtype);
  }
}

}  // namespace nasfast
