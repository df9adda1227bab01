// The weights of a supernet on the device, as the kernels read them: packed by one launch, or a few.
#pragma once

#include "../aten/device_call.h"
#include "tables.h"
#include "task_args.h"

namespace nasfast::child_eval {

struct DeviceNorm {
  const float* folded = nullptr;  // scale, shift of the running statistics
  const float* affine = nullptr;  // gamma, beta
  float eps = 0;
};

struct DevicePrimitive {
  const void* weights[3] = {nullptr, nullptr, nullptr};
  const float* bias = nullptr;  // scale 1, shift
  std::vector<DeviceNorm> norms;
};

class DeviceBank {
 public:
  template <class S>
  static DeviceBank pack(const DeviceCall& call, const std::vector<Primitive>& primitives,
                         const std::vector<NamedTensor>& tensors);
  const DevicePrimitive& operator[](int64_t primitive) const { return packed_[primitive]; }

 private:
  std::vector<DevicePrimitive> packed_;
  at::Tensor storage_;
};

}  // namespace nasfast::child_eval
