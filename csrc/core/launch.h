// One way to launch a kernel. Included by .cu files only.
#pragma once

#include <stdexcept>
#include <string>

#include "device.h"
#include "grid.h"

#if !defined(NASFAST_SIMT)
#include <map>
#include <mutex>
#include <utility>
#endif

namespace nasfast {

struct LaunchConfig {
  const char* name;  // for error messages, counts and profiles
  dim3 grid, block;
  size_t shared_bytes;  // of the kernel's SharedArena
  cudaStream_t stream;
};

#if !defined(NASFAST_SIMT)
namespace detail {

inline void check_cuda(cudaError_t status, const char* name) {
  if (status != cudaSuccess)
    throw std::runtime_error(std::string(name) + ": launch failed: " + cudaGetErrorString(status));
}

// More than kSharedBytes has to be asked for, once per kernel and device. Throws where the device has too little.
inline void allow_shared_memory(const void* kernel, const char* name, size_t bytes) {
  static std::mutex mutex;
  static std::map<std::pair<const void*, int>, int> allowed;
  int device = 0;
  check_cuda(cudaGetDevice(&device), name);
  std::lock_guard<std::mutex> lock(mutex);
  auto found = allowed.find({kernel, device});
  if (found == allowed.end()) {
    int most = 0;
    check_cuda(cudaDeviceGetAttribute(&most, cudaDevAttrMaxSharedMemoryPerBlockOptin, device), name);
    check_cuda(cudaFuncSetAttribute(kernel, cudaFuncAttributeMaxDynamicSharedMemorySize, most), name);
    found = allowed.insert({{kernel, device}, most}).first;
  }
  check_shared(name, bytes, static_cast<size_t>(found->second));
}

}  // namespace detail
#endif

// Runs kernel(args...) over the grid. An empty grid launches nothing. Throws std::runtime_error naming the kernel.
template <class... Params, class... Args>
void launch(const LaunchConfig& config, void (*kernel)(Params...), const Args&... args) {
  if (config.grid.x == 0 || config.grid.y == 0 || config.grid.z == 0) return;
  check_launch(config.name, config.grid, config.block);
#if defined(NASFAST_SIMT)
  check_shared(config.name, config.shared_bytes, simt::kMaxSharedBytes);
  const auto call = [&] { kernel(static_cast<Params>(args)...); };
  simt::run(config.name, config.grid, config.block, config.shared_bytes, call);
#else
  if (config.shared_bytes > kSharedBytes)
    detail::allow_shared_memory(reinterpret_cast<const void*>(kernel), config.name, config.shared_bytes);
  cudaLaunchConfig_t launch_config = {};
  launch_config.gridDim = config.grid;
  launch_config.blockDim = config.block;
  launch_config.dynamicSmemBytes = config.shared_bytes;
  launch_config.stream = config.stream;
  detail::check_cuda(cudaLaunchKernelEx(&launch_config, kernel, static_cast<Params>(args)...), config.name);
#endif
}

}  // namespace nasfast
