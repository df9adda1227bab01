// Reading and writing images, parameters and BatchNorms inside the CUDA kernels of the mixed op.
#pragma once

#include "../core/device.h"
#include "device_args.h"

namespace nasfast::mixed_op {

template <class S>
__device__ __forceinline__ S* image_of(const View& v, int n) {
  return static_cast<S*>(v.data) + static_cast<int64_t>(n) * v.H * v.W * v.ld;
}

// N channels from c of a pixel as float32; zero past the last channel. N > 1 only where the view is `vector`.
template <class S, int N>
__device__ __forceinline__ void load_channels(const S* pixel, int c, int C, float (&out)[N]) {
  if (N > 1 || c < C) {
    unpack(gload_vec<S, N>(pixel + c), out);
  } else {
    out[0] = 0;
  }
}

// The same with the choice between packs and single elements made at run time; c is a multiple of N.
template <class S, int N>
__device__ __forceinline__ void load_channels(const S* pixel, int c, int C, bool vector, float (&out)[N]) {
  if (vector) {
    if (c < C) {
      unpack(gload_vec<S, N>(pixel + c), out);
    } else {
#pragma unroll
      for (int i = 0; i < N; ++i) out[i] = 0;
    }
  } else {
#pragma unroll
    for (int i = 0; i < N; ++i) out[i] = c + i < C ? to_float(gload(pixel + c + i)) : 0.0f;
  }
}

template <class S, int N>
__device__ __forceinline__ void store_channels(S* pixel, int c, int C, bool vector, const float (&v)[N]) {
  if (vector) {
    if (c < C) gstore_vec(pixel + c, pack<S>(v));
  } else {
#pragma unroll
    for (int i = 0; i < N; ++i)
      if (c + i < C) gstore(pixel + c + i, from_float<S>(v[i]));
  }
}

__device__ __forceinline__ float load_param(const ParamView& p, int64_t i) {
  switch (p.type) {
    case Element::kBFloat16:
      return to_float(gload(static_cast<const bf16_t*>(p.data) + i));
    case Element::kHalf:
      return to_float(gload(static_cast<const half_t*>(p.data) + i));
    default:
      return gload(static_cast<const float*>(p.data) + i);
  }
}

__device__ __forceinline__ void store_param(const ParamView& p, int64_t i, float v) {
  switch (p.type) {
    case Element::kBFloat16:
      return gstore(static_cast<bf16_t*>(p.data) + i, from_float<bf16_t>(v));
    case Element::kHalf:
      return gstore(static_cast<half_t*>(p.data) + i, from_float<half_t>(v));
    default:
      return gstore(static_cast<float*>(p.data) + i, v);
  }
}

__device__ __forceinline__ float relu(float v) { return v < 0 ? 0.0f : v; }  // NaN passes, as in torch
__device__ __forceinline__ float below_relu(float g, float v) { return v <= 0 ? 0.0f : g; }

struct NormAt {  // a BatchNorm at one channel: z = scale*y + shift
  float mean, rstd, gamma, beta;
  __device__ __forceinline__ float scale() const { return gamma * rstd; }
  __device__ __forceinline__ float shift() const { return beta - mean * scale(); }
};

__device__ __forceinline__ NormAt norm_at(const NormView& n, int C, int c, float eps) {
  return {gload(n.stats + c), 1.0f / sqrtf(gload(n.stats + C + c) + eps), n.gamma.data ? load_param(n.gamma, c) : 1.0f,
          n.beta.data ? load_param(n.beta, c) : 0.0f};
}

// A tile of kTile x kTile pixels, counted row by row, image by image.
struct TileAt {
  int n, y0, x0;   // image, first pixel
  int rows, cols;  // of it that are inside the image
};

__device__ __forceinline__ TileAt tile_at(int index, int h, int w) {
  const int across = (w + kTile - 1) / kTile, down = (h + kTile - 1) / kTile;
  const int n = index / (across * down), rest = index - n * across * down;
  const int ty = rest / across, tx = rest - ty * across;
  const int y0 = ty * kTile, x0 = tx * kTile;
  return {n, y0, x0, min(kTile, h - y0), min(kTile, w - x0)};
}

__device__ __forceinline__ int tile_count(int N, int h, int w) {
  return N * ((w + kTile - 1) / kTile) * ((h + kTile - 1) / kTile);
}

}  // namespace nasfast::mixed_op
