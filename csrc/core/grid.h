// Launch geometry: sizes are int64 until they are known to fit.
#pragma once

#include <limits>
#include <stdexcept>
#include <string>

#include "device_types.h"

namespace nasfast {

inline constexpr int64_t kMaxGridX = 2147483647, kMaxGridYZ = 65535;
inline constexpr int64_t kMaxThreads = 1024;
inline constexpr size_t kSharedBytes = 48 * 1024;  // of a block, that every device gives unasked
inline constexpr int64_t kMaxInt = std::numeric_limits<int>::max();

// A grid from 64-bit counts. Throws where CUDA has no such grid; 0 stays 0, an empty launch.
inline dim3 make_grid(const char* name, int64_t x, int64_t y = 1, int64_t z = 1) {
  if (x < 0 || y < 0 || z < 0 || x > kMaxGridX || y > kMaxGridYZ || z > kMaxGridYZ)
    throw std::runtime_error(std::string(name) + ": grid must be at most 2147483647 x 65535 x 65535 blocks, got " +
                             std::to_string(x) + " x " + std::to_string(y) + " x " + std::to_string(z));
  return dim3(static_cast<unsigned>(x), static_cast<unsigned>(y), static_cast<unsigned>(z));
}

// Blocks that cover `items`, `per_block` each.
inline dim3 grid_for(const char* name, int64_t items, int64_t per_block) {
  return make_grid(name, ceil_div(items, per_block));
}

// For index arithmetic that a kernel does in 32 bits. Throws where it would overflow.
inline int checked_int(const char* name, const char* what, int64_t value) {
  if (value < 0 || value > kMaxInt)
    throw std::runtime_error(std::string(name) + ": " + what + " must be at most 2147483647, got " +
                             std::to_string(value));
  return static_cast<int>(value);
}

inline void check_launch(const char* name, dim3 grid, dim3 block) {
  make_grid(name, grid.x, grid.y, grid.z);
  const int64_t threads = static_cast<int64_t>(block.x) * block.y * block.z;
  if (threads < 1 || threads > kMaxThreads || block.z > 64)
    throw std::runtime_error(std::string(name) + ": a block must have 1 to 1024 threads, got " +
                             std::to_string(threads));
}

// `most`: what a block can have on the device. No plan depends on it: a kernel needs the same on every device, and runs
// or does not.
inline void check_shared(const char* name, size_t needed, size_t most) {
  if (needed > most)
    throw std::runtime_error(std::string(name) + ": a block needs " + std::to_string(needed) +
                             " bytes of shared memory, and this device gives it at most " + std::to_string(most));
}

}  // namespace nasfast
