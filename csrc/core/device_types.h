// What kernels and their host side share: the stream, launch dimensions, storage types, packs of elements.
//
// Needs no torch and no nvcc. With NASFAST_SIMT the same sources run on the CPU under the test harness of tests/simt.
#pragma once

#include <cstdint>

#include "types.h"

#if defined(NASFAST_SIMT)
struct SimtStream;
using cudaStream_t = SimtStream*;

struct dim3 {
  unsigned x = 1, y = 1, z = 1;
  constexpr dim3(unsigned x_ = 1, unsigned y_ = 1, unsigned z_ = 1) : x(x_), y(y_), z(z_) {}
};
#else
#include <cuda_runtime_api.h>
#endif

namespace nasfast {

// 16-bit storage. Arithmetic is always done in float32.
using bf16_t = bf16;
struct half_t {
  uint16_t bits;
};

// N elements that are read or written at once; its address is a multiple of its size.
template <class T, int N>
struct alignas(sizeof(T) * N) Pack {
  static_assert(sizeof(T) * N == 1 || sizeof(T) * N == 2 || sizeof(T) * N == 4 || sizeof(T) * N == 8 ||
                    sizeof(T) * N == 16,
                "a memory access moves 1, 2, 4, 8 or 16 bytes");
  T v[N];
  constexpr T& operator[](int i) { return v[i]; }
  constexpr const T& operator[](int i) const { return v[i]; }
};

// Bytes of one SharedArena::take, for the host to sum.
template <class T>
constexpr size_t shared_bytes(int64_t count) {
  return (static_cast<size_t>(count) * sizeof(T) + 15) / 16 * 16;
}

}  // namespace nasfast
