// Mean and variance of every channel, from parts to the whole batch, in a fixed order and without atomics on floats.
//
// A block keeps the moments of every channel in its own slot of a partial buffer and merges part after part into it
// (Chan, Golub, LeVeque 1979) in float32. The mean is kept as the distance from one of the values: however large it is,
// the distances between two of them keep their digits. The last block to finish adds the slots up in their order, in
// float64.
#pragma once

#include "device.h"

namespace nasfast {

struct Moments {
  float count, shift, off, m2;  // mean = shift + off; m2: sum of squares around it
};
inline constexpr int kMomentRows = 4;

__device__ __forceinline__ Moments merged(const Moments& a, const Moments& b) {
  const float n = a.count + b.count, apart = (b.shift - a.shift) + (b.off - a.off);
  return {n, a.shift, a.off + apart * (b.count / n), a.m2 + b.m2 + apart * apart * (a.count * b.count / n)};
}

// A slot is [kMomentRows][C].
__device__ __forceinline__ Moments load_moments(const float* slot, int C, int c) {
  return {gload(slot + c), gload(slot + C + c), gload(slot + 2 * C + c), gload(slot + 3 * C + c)};
}
__device__ __forceinline__ void store_moments(float* slot, int C, int c, const Moments& m) {
  gstore(slot + c, m.count);
  gstore(slot + C + c, m.shift);
  gstore(slot + 2 * C + c, m.off);
  gstore(slot + 3 * C + c, m.m2);
}

// Count, sum and sum of squares.
__device__ __forceinline__ void moment_sums(const Moments& m, double (&v)[3]) {
  const double mean = static_cast<double>(m.shift) + m.off;
  v[0] = m.count;
  v[1] = m.count * mean;
  v[2] = m.m2 + m.count * mean * mean;
}

// Adds up COLUMNS values of every channel over `runs` slots in their order: value(run, channel, column) for `channels`
// <= WIDTH channels; done(channel, sums) is called by one thread per channel. scratch: COLUMNS * THREADS doubles.
template <int WIDTH, int COLUMNS, int THREADS, class Value, class Done>
__device__ __forceinline__ void sum_runs(int runs, int channels, const Shared<double>& scratch, const Value& value,
                                         const Done& done) {
  constexpr int kParts = THREADS / WIDTH;
  const int c = threadIdx.x % WIDTH, part = threadIdx.x / WIDTH;
  double sums[COLUMNS] = {};
  if (c < channels) {
#pragma unroll 4
    for (int run = part; run < runs; run += kParts) {
      double v[COLUMNS];
      value(run, c, v);
#pragma unroll
      for (int k = 0; k < COLUMNS; ++k) sums[k] += v[k];
    }
  }
  __syncthreads();
#pragma unroll
  for (int k = 0; k < COLUMNS; ++k) scratch[k * THREADS + threadIdx.x] = sums[k];
  __syncthreads();
  if (threadIdx.x >= WIDTH || c >= channels) return;
  for (int i = 1; i < kParts; ++i)
#pragma unroll
    for (int k = 0; k < COLUMNS; ++k) sums[k] += scratch[k * THREADS + i * WIDTH + c];
  done(c, sums);
}

}  // namespace nasfast
