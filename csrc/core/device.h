// The subset of CUDA that kernels are written in. The only header a .cu file needs besides launch.h and mma.h.
//
// Global memory goes through gload/gstore, shared memory through one SharedArena, and nothing else: under nvcc these
// are plain loads and stores, under g++ with NASFAST_SIMT the harness of tests/simt checks and counts every access.
// Kernels use threadIdx, blockIdx, blockDim, gridDim, __syncthreads, __syncwarp, __shfl_*_sync, __ballot_sync,
// __any_sync, __all_sync, __threadfence and atomicAdd on integers as CUDA defines them.
#pragma once

#include "device_types.h"

#if defined(NASFAST_SIMT)
#include "simt.h"
#else

#include <cuda_bf16.h>
#include <cuda_fp16.h>
#include <cuda_runtime.h>

#include <cstring>

namespace nasfast {
namespace detail {

template <size_t Bytes>
struct Word;
template <>
struct Word<1> {
  using type = unsigned char;
};
template <>
struct Word<2> {
  using type = unsigned short;
};
template <>
struct Word<4> {
  using type = unsigned;
};
template <>
struct Word<8> {
  using type = uint2;
};
template <>
struct Word<16> {
  using type = uint4;
};

template <class To, class From>
__device__ __forceinline__ To bit_copy(const From& from) {
  static_assert(sizeof(To) == sizeof(From));
  To to;
  memcpy(&to, &from, sizeof(To));
  return to;
}

// One memory instruction, whatever the element type. The word is loaded before it is copied: a copy out of memory
// itself would be one of single bytes, as a reference says nothing of alignment.
template <class P, class T>
__device__ __forceinline__ P load_pack(const T* p) {
  const typename Word<sizeof(P)>::type word = *reinterpret_cast<const typename Word<sizeof(P)>::type*>(p);
  return bit_copy<P>(word);
}
template <class P, class T>
__device__ __forceinline__ void store_pack(T* p, const P& v) {
  using W = typename Word<sizeof(P)>::type;
  *reinterpret_cast<W*>(p) = bit_copy<W>(v);
}

}  // namespace detail

__device__ __forceinline__ float to_float(float v) { return v; }
__device__ __forceinline__ float to_float(half_t v) { return __half2float(__ushort_as_half(v.bits)); }
__device__ __forceinline__ float to_float(bf16_t v) { return __uint_as_float(static_cast<unsigned>(v.bits) << 16); }

// Rounds to nearest, ties to even; NaN stays NaN.
template <class T>
__device__ __forceinline__ T from_float(float v);
template <>
__device__ __forceinline__ float from_float<float>(float v) {
  return v;
}
template <>
__device__ __forceinline__ half_t from_float<half_t>(float v) {
  return {__half_as_ushort(__float2half_rn(v))};
}
template <>
__device__ __forceinline__ bf16_t from_float<bf16_t>(float v) {
  return {__bfloat16_as_ushort(__float2bfloat16_rn(v))};
}

template <class T>
__device__ __forceinline__ T gload(const T* p) {
  return *p;
}
template <class T>
__device__ __forceinline__ void gstore(T* p, T v) {
  *p = v;
}
template <class T, int N>
__device__ __forceinline__ Pack<T, N> gload_vec(const T* p) {
  return detail::load_pack<Pack<T, N> >(p);
}
template <class T, int N>
__device__ __forceinline__ void gstore_vec(T* p, const Pack<T, N>& v) {
  detail::store_pack(p, v);
}

// `count` elements in shared memory, 16-byte aligned.
template <class T>
class Shared {
 public:
  __device__ __forceinline__ explicit Shared(T* data) : data_(data) {}
  __device__ __forceinline__ T& operator[](int i) const { return data_[i]; }
  template <int N>
  __device__ __forceinline__ Pack<T, N> load_vec(int i) const {
    return detail::load_pack<Pack<T, N> >(data_ + i);
  }
  template <int N>
  __device__ __forceinline__ void store_vec(int i, const Pack<T, N>& v) const {
    detail::store_pack(data_ + i, v);
  }
  // The elements from `first` on.
  __device__ __forceinline__ Shared from(int first) const { return Shared(data_ + first); }

 private:
  T* data_;
};

// A kernel's dynamic shared memory. One per kernel; every thread takes the same pieces in the same order.
class SharedArena {
 public:
  template <class T>
  __device__ __forceinline__ Shared<T> take(int count) {
    extern __shared__ uint4 nasfast_shared_memory[];
    T* piece = reinterpret_cast<T*>(reinterpret_cast<unsigned char*>(nasfast_shared_memory) + used_);
    used_ += (count * static_cast<int>(sizeof(T)) + 15) / 16 * 16;
    return Shared<T>(piece);
  }

 private:
  int used_ = 0;
};

// Called by every thread of a block after its writes to global memory. True in the block that arrives last of `blocks`,
// which may then read what all of them wrote before. `counter` is 0 at first and again afterwards, so that one buffer
// serves launch after launch. Holds barriers.
__device__ __forceinline__ bool last_block(unsigned* counter, unsigned blocks) {
  __threadfence();
  __syncthreads();
  int last = 0;
  if (threadIdx.x == 0 && threadIdx.y == 0 && threadIdx.z == 0) {
    // The barrier hands this thread the writes of its block; its own fences pass them on with the count, and order what
    // other blocks wrote before what is read from here on.
    __threadfence();
    last = atomicAdd(counter, 1u) == blocks - 1;
    __threadfence();
    if (last) *counter = 0;
  }
  last = __syncthreads_or(last);
  __threadfence();
  return last != 0;
}

}  // namespace nasfast

#endif  // NASFAST_SIMT

namespace nasfast {

// A pack as float32, and back.
template <class T, int N>
__device__ __forceinline__ void unpack(const Pack<T, N>& p, float (&out)[N]) {
#pragma unroll
  for (int i = 0; i < N; ++i) out[i] = to_float(p[i]);
}
template <class T, int N>
__device__ __forceinline__ Pack<T, N> pack(const float (&v)[N]) {
  Pack<T, N> out;
#pragma unroll
  for (int i = 0; i < N; ++i) out[i] = from_float<T>(v[i]);
  return out;
}

// A value as storage of type T keeps it.
template <class T>
__device__ __forceinline__ float rounded(float v) {
  return to_float(from_float<T>(v));
}

// 1 / v for v of 2^-126 to 2^126, by two Newton steps from an approximation in float32; a division is a call, around
// which registers spill.
__device__ __forceinline__ double reciprocal(double v) {
  double r = static_cast<double>(__fdividef(1.0f, static_cast<float>(v)));
  r = r * (2.0 - v * r);
  return r * (2.0 - v * r);
}

// a / b for 0 <= a < 2^50 and b > 0, exactly. A division of 64 bits is a call too, and ten times as slow as one of 32.
__device__ __forceinline__ int64_t quotient(int64_t a, int b) {
  if (a >> 32 == 0) return static_cast<unsigned>(a) / static_cast<unsigned>(b);
  const int64_t q = static_cast<int64_t>(static_cast<double>(a) * reciprocal(static_cast<double>(b)));
  const int64_t rest = a - q * b;
  return rest < 0 ? q - 1 : rest >= b ? q + 1 : q;
}

// Elements of one 16-byte access.
template <class T>
inline constexpr int kVector = 16 / static_cast<int>(sizeof(T));

// The last entry whose first block is not behind this one.
template <class Entry>
__device__ __forceinline__ int entry_of_block(const Entry* entries, int count) {
  int low = 0, high = count - 1;
  while (low < high) {
    const int middle = (low + high + 1) / 2;
    if (entries[middle].block <= static_cast<int>(blockIdx.x))
      low = middle;
    else
      high = middle - 1;
  }
  return low;
}

}  // namespace nasfast
