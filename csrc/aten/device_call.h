// The host side of a kernel call: device guard, current stream, allocation, typed pointers. For *_cuda.cpp files.
//
// With NASFAST_SIMT the same host side runs kernels on CPU tensors under the harness of tests/simt, which tracks memory
// from here: what `empty` gives is poisoned until a kernel writes it, what `read` gives must not be written.
#pragma once

#include <torch/library.h>
#include "tensor.h"

#include <cstring>

#include "../core/device_types.h"

#if !defined(NASFAST_SIMT)
#include <c10/cuda/CUDAException.h>
#include <c10/cuda/CUDAGraphsC10Utils.h>
#include <c10/cuda/CUDAGuard.h>
#include <c10/cuda/CUDAStream.h>
#endif

namespace nasfast {

template <class T>
struct ScalarTypeOf;
template <>
struct ScalarTypeOf<float> {
  static constexpr at::ScalarType value = at::kFloat;
};
template <>
struct ScalarTypeOf<double> {
  static constexpr at::ScalarType value = at::kDouble;
};
template <>
struct ScalarTypeOf<bf16_t> {
  static constexpr at::ScalarType value = at::kBFloat16;
};
template <>
struct ScalarTypeOf<half_t> {
  static constexpr at::ScalarType value = at::kHalf;
};
template <>
struct ScalarTypeOf<int32_t> {
  static constexpr at::ScalarType value = at::kInt;
};
template <>
struct ScalarTypeOf<uint32_t> {  // torch's uint32 has few operators; counters live in int32 tensors
  static constexpr at::ScalarType value = at::kInt;
};
template <>
struct ScalarTypeOf<int64_t> {
  static constexpr at::ScalarType value = at::kLong;
};
template <>
struct ScalarTypeOf<uint8_t> {
  static constexpr at::ScalarType value = at::kByte;
};

class DeviceCall {
 public:
  // On the device of `like`, which all tensors of the call share.
  explicit DeviceCall(const at::Tensor& like);
  ~DeviceCall();
  DeviceCall(const DeviceCall&) = delete;
  DeviceCall& operator=(const DeviceCall&) = delete;

  cudaStream_t stream() const;

  // Uninitialised; from torch's allocator on the current stream.
  at::Tensor empty(at::IntArrayRef sizes, at::ScalarType dtype) const;
  at::Tensor zeros(at::IntArrayRef sizes, at::ScalarType dtype) const;

  // Bytes of the host, on the device once the current stream gets there. `data` may change when this returns. Not in a
  // CUDA graph, whose replays would not read it again.
  at::Tensor upload(const void* data, int64_t bytes) const;

  // [N, C, H, W] with the channels of a pixel side by side.
  at::Tensor empty_channels_last(int64_t N, int64_t C, int64_t H, int64_t W, at::ScalarType dtype) const {
    return empty({N, H, W, C}, dtype).permute({0, 3, 1, 2});
  }

  // The first element of a tensor of type T on this device; an undefined tensor gives null.
  template <class T>
  const T* read(const at::Tensor& t) const {
    if (!t.defined()) return nullptr;
    check(t, ScalarTypeOf<T>::value);
    return static_cast<const T*>(pointer(t, false));
  }
  template <class T>
  T* write(const at::Tensor& t) const {
    if (!t.defined()) return nullptr;
    check(t, ScalarTypeOf<T>::value);
    return static_cast<T*>(pointer(t, true));
  }

 private:
  void check(const at::Tensor& t, at::ScalarType dtype) const {
    TORCH_INTERNAL_ASSERT(t.scalar_type() == dtype, "a kernel takes ", dtype, ", got ", t.scalar_type());
    TORCH_INTERNAL_ASSERT(t.device() == device_, "a kernel runs on ", device_, ", got a tensor on ", t.device());
  }
  void* pointer(const at::Tensor& t, bool writable) const;

  at::Device device_;
#if defined(NASFAST_SIMT)
  struct Scope;
  std::unique_ptr<Scope> scope_;
#else
  c10::cuda::CUDAGuard guard_;
#endif
};

#if !defined(NASFAST_SIMT)
inline DeviceCall::DeviceCall(const at::Tensor& like) : device_(like.device()), guard_(like.device()) {}
inline DeviceCall::~DeviceCall() = default;
inline cudaStream_t DeviceCall::stream() const { return c10::cuda::getCurrentCUDAStream(device_.index()).stream(); }
inline at::Tensor DeviceCall::empty(at::IntArrayRef sizes, at::ScalarType dtype) const {
  return at::empty(sizes, at::TensorOptions().dtype(dtype).device(device_));
}
inline at::Tensor DeviceCall::zeros(at::IntArrayRef sizes, at::ScalarType dtype) const {
  at::Tensor t = empty(sizes, dtype);
  if (t.numel() > 0) C10_CUDA_CHECK(cudaMemsetAsync(t.mutable_data_ptr(), 0, t.nbytes(), stream()));
  return t;
}
inline at::Tensor DeviceCall::upload(const void* data, int64_t bytes) const {
  TORCH_CHECK(c10::cuda::currentStreamCaptureStatusMayInitCtx() == c10::cuda::CaptureStatus::None,
              "nasfast: an op whose work depends on a tensor of the CPU cannot be part of a CUDA graph");
  const at::Tensor host = at::empty({bytes}, at::TensorOptions().dtype(at::kByte).pinned_memory(true));
  std::memcpy(host.mutable_data_ptr(), data, static_cast<size_t>(bytes));
  at::Tensor t = empty({bytes}, at::kByte);
  return t.copy_(host, true);  // torch keeps pinned memory until the copy is done
}
inline void* DeviceCall::pointer(const at::Tensor& t, bool writable) const {
  return writable ? t.mutable_data_ptr() : const_cast<void*>(t.const_data_ptr());
}
#endif

}  // namespace nasfast

// NASFAST_DEVICE_IMPL(name, m) { m.impl("op", &function); ... }: the CUDA kernels of ops, or, in the harness, what
// stands in for the CPU kernels of the same ops while it is enabled. `name` is unique to the file.
#if defined(NASFAST_SIMT)
namespace simt {
struct Implementations {
  explicit Implementations(void (*implement)(torch::Library&));
};
}  // namespace simt
#define NASFAST_DEVICE_IMPL(name, m)                                                   \
  static void nasfast_implement_##name(torch::Library&);                               \
  static const simt::Implementations nasfast_listed_##name(&nasfast_implement_##name); \
  static void nasfast_implement_##name(torch::Library& m)
#else
#define NASFAST_DEVICE_IMPL(name, m) TORCH_LIBRARY_IMPL(nasfast, CUDA, m)
#endif
