// CUDA on the CPU, for tests: the words of csrc/core/device.h for g++.
//
// A kernel's threads are fibers on one processor thread (machine.cpp). Between two barriers they run one at a time, in
// an order shuffled by seed; blocks run one after the other, in shuffled order too. Every access to memory goes through
// the functions here, which compare it with what is remembered of its bytes (access.h): who wrote and read them last,
// and when. So a missing barrier is found whatever the order was. An error is a simt::Error that says kernel, block,
// thread.
//
// A kernel whose blocks wait for each other would hang on hardware that does not run them all at once; here it always
// does, so none may.
#pragma once

#include <math.h>

#include <algorithm>
#include <cstring>

#include "access.h"
#include "half.h"
#include "machine.h"

#define __global__
#define __device__
#define __host__
#define __forceinline__ inline __attribute__((always_inline))
#define __launch_bounds__(...)
#define __grid_constant__

inline simt::Index3 threadIdx, blockIdx;
inline dim3 blockDim, gridDim;

using std::max;
using std::min;

inline float rsqrtf(float v) { return 1.0f / sqrtf(v); }
inline float __fdividef(float a, float b) { return a / b; }

// ---- synchronisation ------------------------------------------------------------------------------------------------

inline void __syncthreads(int line = __builtin_LINE(), const char* file = __builtin_FILE()) {
  simt::block_barrier({"__syncthreads", file, line});
}
inline void __threadfence() {}

inline void __syncwarp(unsigned mask = ~0u, int line = __builtin_LINE(), const char* file = __builtin_FILE()) {
  simt::warp_barrier(mask, {"__syncwarp", file, line});
}

template <class T>
T __shfl_sync(unsigned mask, T v, int source, int width = 32, int line = __builtin_LINE(),
              const char* file = __builtin_FILE()) {
  return simt::shuffle(mask, v, {"__shfl_sync", file, line}, width,
                       [=](int lane) { return (lane & ~(width - 1)) + (source & (width - 1)); });
}
template <class T>
T __shfl_xor_sync(unsigned mask, T v, int bits, int width = 32, int line = __builtin_LINE(),
                  const char* file = __builtin_FILE()) {
  return simt::shuffle(mask, v, {"__shfl_xor_sync", file, line}, width, [=](int lane) {
    const int source = lane ^ bits;
    return source / width > lane / width ? lane : source;
  });
}
template <class T>
T __shfl_down_sync(unsigned mask, T v, unsigned delta, int width = 32, int line = __builtin_LINE(),
                   const char* file = __builtin_FILE()) {
  return simt::shuffle(mask, v, {"__shfl_down_sync", file, line}, width, [=](int lane) {
    const int source = lane + static_cast<int>(delta);
    return source / width != lane / width ? lane : source;
  });
}
template <class T>
T __shfl_up_sync(unsigned mask, T v, unsigned delta, int width = 32, int line = __builtin_LINE(),
                 const char* file = __builtin_FILE()) {
  return simt::shuffle(mask, v, {"__shfl_up_sync", file, line}, width, [=](int lane) {
    const int source = lane % width - static_cast<int>(delta);
    return source < 0 ? lane : lane - static_cast<int>(delta);
  });
}

inline unsigned __ballot_sync(unsigned mask, int predicate, int line = __builtin_LINE(),
                              const char* file = __builtin_FILE()) {
  return simt::ballot(mask, predicate != 0, {"__ballot_sync", file, line});
}
inline int __any_sync(unsigned mask, int predicate, int line = __builtin_LINE(), const char* file = __builtin_FILE()) {
  return simt::ballot(mask, predicate != 0, {"__any_sync", file, line}) != 0;
}
inline int __all_sync(unsigned mask, int predicate, int line = __builtin_LINE(), const char* file = __builtin_FILE()) {
  return simt::ballot(mask, predicate != 0, {"__all_sync", file, line}) == mask;
}

// ---- atomics --------------------------------------------------------------------------------------------------------

inline int atomicAdd(int* p, int v) {
  simt::global_atomic(p, sizeof(*p));
  const int before = *p;
  *p = before + v;
  return before;
}
inline unsigned atomicAdd(unsigned* p, unsigned v) {
  simt::global_atomic(p, sizeof(*p));
  const unsigned before = *p;
  *p = before + v;
  return before;
}
// Sums of floats depend on the order of arrival; kernels do without, and a test shows that the harness tells.
inline float atomicAdd(float* p, float v) {
  simt::global_atomic(p, sizeof(*p));
  const float before = *p;
  *p = before + v;
  return before;
}

// ---- memory ---------------------------------------------------------------------------------------------------------

namespace nasfast {

inline float to_float(float v) { return v; }
inline float to_float(half_t v) { return simt::half_to_float(v.bits); }
inline float to_float(bf16_t v) { return simt::bf16_to_float(v.bits); }

template <class T>
T from_float(float v);
template <>
inline float from_float<float>(float v) {
  return v;
}
template <>
inline half_t from_float<half_t>(float v) {
  return {simt::float_to_half(v)};
}
template <>
inline bf16_t from_float<bf16_t>(float v) {
  return {simt::float_to_bf16(v)};
}

template <class T>
T gload(const T* p) {
  simt::global_read(p, sizeof(T));
  return *p;
}
template <class T>
void gstore(T* p, T v) {
  simt::global_write(p, sizeof(T));
  *p = v;
}
template <class T, int N>
Pack<T, N> gload_vec(const T* p) {
  simt::global_read(p, sizeof(Pack<T, N>));
  Pack<T, N> v;
  std::memcpy(&v, p, sizeof(v));
  return v;
}
template <class T, int N>
void gstore_vec(T* p, const Pack<T, N>& v) {
  simt::global_write(p, sizeof(v));
  std::memcpy(p, &v, sizeof(v));
}

// Stands for a T& in shared memory.
template <class T>
class SharedRef {
 public:
  SharedRef(T* p, simt::Cell* cell) : p_(p), cell_(cell) {}
  SharedRef(const SharedRef&) = default;

  operator T() const {
    simt::shared_read(cell_);
    return *p_;
  }
  SharedRef& operator=(T v) {
    simt::shared_write(cell_);
    *p_ = v;
    return *this;
  }
  SharedRef& operator=(const SharedRef& other) { return *this = static_cast<T>(other); }
  SharedRef& operator+=(T v) { return *this = static_cast<T>(*this) + v; }
  SharedRef& operator-=(T v) { return *this = static_cast<T>(*this) - v; }
  SharedRef& operator*=(T v) { return *this = static_cast<T>(*this) * v; }

 private:
  T* p_;
  simt::Cell* cell_;
};

template <class T>
class Shared {
 public:
  Shared(T* data, simt::Cell* cells, int count) : data_(data), cells_(cells), count_(count) {}

  SharedRef<T> operator[](int i) const {
    if (static_cast<unsigned>(i) >= static_cast<unsigned>(count_)) simt::shared_out_of_bounds(i, 1, count_, sizeof(T));
    return {data_ + i, cells_ + i};
  }
  template <int N>
  Pack<T, N> load_vec(int i) const {
    check<N>(i);
    for (int k = 0; k < N; ++k) simt::shared_read(cells_ + i + k);
    Pack<T, N> v;
    std::memcpy(&v, data_ + i, sizeof(v));
    return v;
  }
  template <int N>
  void store_vec(int i, const Pack<T, N>& v) const {
    check<N>(i);
    for (int k = 0; k < N; ++k) simt::shared_write(cells_ + i + k);
    std::memcpy(data_ + i, &v, sizeof(v));
  }
  Shared from(int first) const {
    if (first < 0 || first > count_) simt::shared_out_of_bounds(first, 0, count_, sizeof(T));
    return {data_ + first, cells_ + first, count_ - first};
  }

 private:
  template <int N>
  void check(int i) const {
    if (i < 0 || i > count_ - N) simt::shared_out_of_bounds(i, N, count_, sizeof(T));
    if (reinterpret_cast<uintptr_t>(data_ + i) % sizeof(Pack<T, N>) != 0)
      simt::shared_misaligned(i, N, sizeof(Pack<T, N>));
  }

  T* data_;
  simt::Cell* cells_;
  int count_;
};

class SharedArena {
 public:
  template <class T>
  Shared<T> take(int count) {
    const simt::SharedPiece piece = simt::take_shared(takes_++, used_, cells_, count, sizeof(T));
    used_ += shared_bytes<T>(count);
    cells_ += count;
    return {reinterpret_cast<T*>(piece.data), piece.cells, count};
  }

 private:
  int takes_ = 0;
  size_t used_ = 0, cells_ = 0;
};

inline bool last_block(unsigned* counter, unsigned blocks, int line = __builtin_LINE(),
                       const char* file = __builtin_FILE()) {
  return simt::last_block(counter, blocks, {"last_block", file, line});
}

}  // namespace nasfast

// ---- tensor cores ---------------------------------------------------------------------------------------------------

namespace simt {

template <class T>
inline void mma_16x8x16(float (&d)[4], const uint32_t (&a)[4], const uint32_t (&b)[2]) {
  struct Fragment {
    uint32_t a[4], b[2];
  };
  const auto at = [](uint32_t pair, int i) {
    return nasfast::to_float(T{static_cast<uint16_t>(i % 2 ? pair >> 16 : pair)});
  };
  const Fragment own = {{a[0], a[1], a[2], a[3]}, {b[0], b[1]}};
  Fragment all[kWarp];
  exchange(~0u, &own, all, sizeof(Fragment), {"mma_16x8x16", "", 0});
  const int group = lane_id() / 4, member = lane_id() % 4;
  for (int i = 0; i < 4; ++i) {
    const int row_half = i / 2, column = 2 * member + i % 2;
    float sum = d[i];
    for (int k = 0; k < 16; ++k) {
      const float x = at(all[4 * group + k % 8 / 2].a[row_half + 2 * (k / 8)], k);
      const float y = at(all[4 * column + k % 8 / 2].b[k / 8], k);
      sum += x * y;
    }
    d[i] = sum;
  }
}

}  // namespace simt
