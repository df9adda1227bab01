// 3x3 pools with padding 1, computed where they are needed: they are never stored.
//
// Average: the padding is not counted. Maximum: ties go to the first tap in row-major order and NaN wins, as in torch.
#pragma once

#include "image.cuh"

namespace nasfast::mixed_op {

inline constexpr int kPoolReach = 3;

template <int N>
struct Pooled {
  float sum[N], best[N], centre[N];
  int tap[N];  // 3*ky + kx of the maximum
  int count;

  __device__ __forceinline__ Pooled() : count(0) {
#pragma unroll
    for (int i = 0; i < N; ++i) {
      sum[i] = 0;
      best[i] = -INFINITY;
      centre[i] = 0;
      tap[i] = -1;
    }
  }
  __device__ __forceinline__ void take(const float (&v)[N], int index) {
#pragma unroll
    for (int i = 0; i < N; ++i) {
      sum[i] += v[i];
      const bool newer = v[i] > best[i] || v[i] != v[i] || tap[i] < 0;
      if (newer) {
        best[i] = v[i];
        tap[i] = index;
      }
    }
    ++count;
  }
  __device__ __forceinline__ float average(int i) const { return sum[i] / static_cast<float>(count); }
};

// N channels of the pools at output pixel (oy, ox) of an image.
template <class S, int N>
__device__ __forceinline__ Pooled<N> pool_at(const View& x, const S* image, int oy, int ox, int stride, int c) {
  Pooled<N> out;
#pragma unroll
  for (int ky = 0; ky < kPoolReach; ++ky) {
#pragma unroll
    for (int kx = 0; kx < kPoolReach; ++kx) {
      const int iy = oy * stride + ky - 1, ix = ox * stride + kx - 1;
      if (iy < 0 || iy >= x.H || ix < 0 || ix >= x.W) continue;
      float v[N];
      load_channels(image + (iy * x.W + ix) * x.ld, c, x.C, v);
      out.take(v, ky * kPoolReach + kx);
      if (ky == 1 && kx == 1) {
#pragma unroll
        for (int i = 0; i < N; ++i) out.centre[i] = v[i];
      }
    }
  }
  return out;
}

}  // namespace nasfast::mixed_op
