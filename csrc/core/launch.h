// One way to launch a kernel. Included by .cu files only.
#pragma once

#include <stdexcept>
#include <string>

#include "device.h"
#include "grid.h"

#if !defined(NASFAST_SIMT)
#include <mutex>
#include <set>
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

// More than 48 KiB of shared memory has to be asked for, once per kernel and device.
inline void allow_shared_memory(const void* kernel, const char* name) {
  static std::mutex mutex;
  static std::set<std::pair<const void*, int>> allowed;
  int device = 0;
  check_cuda(cudaGetDevice(&device), name);
  std::lock_guard<std::mutex> lock(mutex);
  if (allowed.count({kernel, device})) return;
  int most = 0;
  check_cuda(cudaDeviceGetAttribute(&most, cudaDevAttrMaxSharedMemoryPerBlockOptin, device), name);
  check_cuda(cudaFuncSetAttribute(kernel, cudaFuncAttributeMaxDynamicSharedMemorySize, most), name);
  allowed.insert({kernel, device});
}

}  // namespace detail
#endif

// Runs kernel(args...) over the grid. An empty grid launches nothing. Throws std::runtime_error naming the kernel.
template <class... Params, class... Args>
void launch(const LaunchConfig& config, void (*kernel)(Params...), const Args&... args) {
  if (config.grid.x == 0 || config.grid.y == 0 || config.grid.z == 0) return;
  check_launch(config.name, config.grid, config.block, config.shared_bytes);
#if defined(NASFAST_SIMT)
  const auto call = [&] { kernel(static_cast<Params>(args)...); };
  simt::run(config.name, config.grid, config.block, config.shared_bytes, call);
#else
  if (config.shared_bytes > 48 * 1024) detail::allow_shared_memory(reinterpret_cast<const void*>(kernel), config.name);
  cudaLaunchConfig_t launch_config = {};
  launch_config.gridDim = config.grid;
  launch_config.blockDim = config.block;
  launch_config.dynamicSmemBytes = config.shared_bytes;
  launch_config.stream = config.stream;
  detail::check_cuda(cudaLaunchKernelEx(&launch_config, kernel, static_cast<Params>(args)...), config.name);
#endif
}

}  // namespace nasfast
