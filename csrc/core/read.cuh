// Reading and finishing values (source.h) inside CUDA kernels.
#pragma once

#include "device.h"
#include "source.h"

namespace nasfast {

__device__ __forceinline__ float activated(float v, int act) {  // NaN passes
  if (act >= kActRelu) v = v < 0 ? 0.0f : v;
  return act == kActRelu6 && v > 6 ? 6.0f : v;
}

// act(scale * v + shift) of N channels from c on.
template <int N>
__device__ __forceinline__ void finish(const float* affine, int ld, int act, int c, float (&v)[N]) {
  if (affine) {
#pragma unroll
    for (int k = 0; k < N; k += 4) {
      constexpr int kPart = N < 4 ? N : 4;
      const Pack<float, kPart> scale = gload_vec<float, kPart>(affine + c + k);
      const Pack<float, kPart> shift = gload_vec<float, kPart>(affine + ld + c + k);
#pragma unroll
      for (int i = 0; i < kPart; ++i) v[k + i] = scale[i] * v[k + i] + shift[i];
    }
  }
#pragma unroll
  for (int i = 0; i < N; ++i) v[i] = activated(v[i], act);
}

// N channels from c on of a pixel, as its readers see it.
template <class S, int N>
__device__ __forceinline__ void read_pixel(const Source& x, int64_t pixel, int ld, int c, float (&v)[N]) {
  unpack(gload_vec<S, N>(static_cast<const S*>(x.data) + pixel * ld + c), v);
  finish(x.affine, ld, x.act, c, v);
}

}  // namespace nasfast
