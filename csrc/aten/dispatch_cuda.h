// Calls f.operator()<S>() with the storage type that the CUDA kernels have for a dtype.
#pragma once

#include "check.h"
#include "device_call.h"

namespace nasfast {

template <class F>
auto dispatch_device(const char* op, at::ScalarType dtype, F&& f) {
  check_storage(op, dtype, Kernels::kCuda);
  if (dtype == at::kFloat) return f.template operator()<float>();
  if (dtype == at::kBFloat16) return f.template operator()<bf16_t>();
  return f.template operator()<half_t>();
}

}  // namespace nasfast
