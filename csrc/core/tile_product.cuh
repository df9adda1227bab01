// The product of one block of 128 threads: acc[64][NB] += a[64][16] * b[16][NB], both factors in shared memory.
//
// float32: every thread keeps 64*NB/512 rows of four neighbouring columns and multiplies exactly, without TF32.
// bfloat16 and half: each of the four warps takes 16 rows to the tensor cores. Both accumulate in float32. The rows of
// the shared tiles are padded so that the threads of a warp read from different banks.
#pragma once

#include "mma.h"

namespace nasfast {

inline constexpr int kProductRows = 64, kProductDepth = 16, kProductThreads = 128;

template <class T, int NB>
class TileProduct {
  static_assert(sizeof(T) == 2 && NB % kMmaN == 0);

 public:
  static constexpr int kLdA = kProductDepth + 8, kLdB = kProductDepth + 8;  // b is kept as [NB][16]
  static constexpr int kSizeA = kProductRows * kLdA, kSizeB = NB * kLdB;

  __device__ __forceinline__ TileProduct() { clear(); }
  __device__ __forceinline__ void clear() {
#pragma unroll
    for (int t = 0; t < kTiles; ++t)
#pragma unroll
      for (int i = 0; i < 4; ++i) acc_[t][i] = 0;
  }
  __device__ __forceinline__ static int at_a(int row, int k) { return row * kLdA + k; }
  __device__ __forceinline__ static int at_b(int k, int n) { return n * kLdB + k; }

  __device__ __forceinline__ void step(const Shared<T>& a, const Shared<T>& b) {
    const int lane = threadIdx.x % 32, group = lane / 4, member = lane % 4, row = threadIdx.x / 32 * kMmaM + group;
    uint32_t fa[4];
#pragma unroll
    for (int i = 0; i < 4; ++i)
      fa[i] = pair_bits(a.template load_vec<2>(at_a(row + i % 2 * 8, 2 * member + i / 2 * 8)));
#pragma unroll
    for (int t = 0; t < kTiles; ++t) {
      uint32_t fb[2];
#pragma unroll
      for (int i = 0; i < 2; ++i)
        fb[i] = pair_bits(b.template load_vec<2>(at_b(2 * member + i * 8, t * kMmaN + group)));
      mma_16x8x16<T>(acc_[t], fa, fb);
    }
  }

  // f(row, column, Pack<float, 2>) for everything this thread holds.
  template <class F>
  __device__ __forceinline__ void emit(const F& f) const {
    const int lane = threadIdx.x % 32, row = threadIdx.x / 32 * kMmaM + lane / 4;
#pragma unroll
    for (int t = 0; t < kTiles; ++t)
#pragma unroll
      for (int i = 0; i < 2; ++i)
        f(row + 8 * i, t * kMmaN + lane % 4 * 2, Pack<float, 2>{{acc_[t][2 * i], acc_[t][2 * i + 1]}});
  }

 private:
  static constexpr int kTiles = NB / kMmaN;
  float acc_[kTiles][4];
};

template <int NB>
class TileProduct<float, NB> {
  static_assert(NB % 4 == 0 && kProductThreads * 4 % NB == 0);

 public:
  static constexpr int kLdA = kProductDepth + 4, kLdB = NB + 4;
  static constexpr int kSizeA = kProductRows * kLdA, kSizeB = kProductDepth * kLdB;

  __device__ __forceinline__ TileProduct() { clear(); }
  __device__ __forceinline__ void clear() {
#pragma unroll
    for (int m = 0; m < kRows; ++m)
#pragma unroll
      for (int n = 0; n < 4; ++n) acc_[m][n] = 0;
  }
  __device__ __forceinline__ static int at_a(int row, int k) { return row * kLdA + k; }
  __device__ __forceinline__ static int at_b(int k, int n) { return k * kLdB + n; }

  __device__ __forceinline__ void step(const Shared<float>& a, const Shared<float>& b) {
    const int column = threadIdx.x % kColumns * 4, row = threadIdx.x / kColumns;
#pragma unroll
    for (int k0 = 0; k0 < kProductDepth; k0 += 4) {
      Pack<float, 4> vb[4];
#pragma unroll
      for (int k = 0; k < 4; ++k) vb[k] = b.template load_vec<4>(at_b(k0 + k, column));
#pragma unroll
      for (int m = 0; m < kRows; ++m) {
        const Pack<float, 4> va = a.template load_vec<4>(at_a(row + m * kStep, k0));
#pragma unroll
        for (int k = 0; k < 4; ++k)
#pragma unroll
          for (int n = 0; n < 4; ++n) acc_[m][n] += va[k] * vb[k][n];
      }
    }
  }

  template <class F>
  __device__ __forceinline__ void emit(const F& f) const {
    const int column = threadIdx.x % kColumns * 4, row = threadIdx.x / kColumns;
#pragma unroll
    for (int m = 0; m < kRows; ++m)
      f(row + m * kStep, column, Pack<float, 4>{{acc_[m][0], acc_[m][1], acc_[m][2], acc_[m][3]}});
  }

 private:
  static constexpr int kColumns = NB / 4, kStep = kProductThreads / kColumns, kRows = kProductRows / kStep;
  float acc_[kRows][4];
};

}  // namespace nasfast
