// Moments of a tile, and what becomes of those of all tiles (core/moments.cuh).
#pragma once

#include "../core/moments.cuh"
#include "image.cuh"

namespace nasfast::mixed_op {

// Moments of NB channels of a tile of values in shared memory, value(pixel, channel); thread c < NB returns channel
// c's. scratch: 2 * blockDim.x floats.
template <int NB, class Value>
__device__ __forceinline__ Moments tile_moments(const TileAt& tile, const Shared<float>& scratch, const Value& value) {
  constexpr int kParts = kConvThreads / NB;
  const int c = threadIdx.x % NB, part = threadIdx.x / NB;
  const float first = value(0, c);
  float sum = 0, square = 0;
  for (int p = part; p < kTilePixels; p += kParts) {
    if (p / kTile >= tile.rows || p % kTile >= tile.cols) continue;
    const float t = value(p, c) - first;
    sum += t;
    square += t * t;
  }
  scratch[threadIdx.x] = sum;
  scratch[kConvThreads + threadIdx.x] = square;
  __syncthreads();
  if (threadIdx.x >= NB) return {};
  for (int i = 1; i < kParts; ++i) {
    sum += scratch[i * NB + c];
    square += scratch[kConvThreads + i * NB + c];
  }
  const float count = static_cast<float>(tile.rows * tile.cols), mean = sum / count;
  return {count, first, mean, square - sum * mean};
}

// Mean and biased variance of channels c0.. from the moments that `runs` blocks left, `slot` floats apart:
// store(channel, mean, variance).
template <int WIDTH, int THREADS, class Store>
__device__ __forceinline__ void finish_statistics(const float* partial, int64_t slot, int runs, int C, int c0,
                                                  int channels, const Shared<double>& scratch, const Store& store) {
  sum_runs<WIDTH, 3, THREADS>(
      runs, channels, scratch,
      [&](int run, int c, double (&v)[3]) { moment_sums(load_moments(partial + run * slot, C, c0 + c), v); },
      [&](int c, const double (&v)[3]) {
        const double mean = v[1] / v[0], variance = v[2] / v[0] - mean * mean;
        store(c0 + c, static_cast<float>(mean), static_cast<float>(variance < 0 ? 0 : variance));
      });
}

}  // namespace nasfast::mixed_op
