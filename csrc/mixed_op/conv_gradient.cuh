// dL/dy of a convolution's output, as a factor of products: a*G + b*y + c per channel, worked out while it is read.
#pragma once

#include "conv_tiles.cuh"

namespace nasfast::mixed_op {

// Coefficients in shared memory, [3][chunks][kChunk]; zero past the last channel. Barriers are the caller's.
__device__ __forceinline__ void load_coefficients(const BackwardConv& conv, const Shared<float>& out) {
  const int O = conv.conv.shape.O, room = chunks_of(O) * kChunk;
  for (int i = threadIdx.x; i < 3 * room; i += kConvThreads) {
    const int k = i / room, o = i - k * room;
    const float plain = k == 0 ? 1.0f : 0.0f;
    out[i] = o >= O ? 0.0f : conv.coefficients ? gload(conv.coefficients + k * O + o) : plain;
  }
}

struct PixelOfGrad {
  int y, x;
  bool inside;
};

struct Channels {  // [first, end)
  int first, end;
  __device__ __forceinline__ bool hold(int c) const { return c >= first && c < end; }
};

// A left factor [64][16] of dL/dy: row m is the pixel that where(m) gives (zero where it is not inside), columns are
// the channels from o0 on; zero where they are not `wanted`.
template <class S, int NB, class Where>
__device__ __forceinline__ void load_gradient(const BackwardConv& conv, int n, int o0, Channels wanted,
                                              const Shared<float>& coefficients, const Shared<S>& a,
                                              const Where& where) {
  constexpr int V = kVector<S>, kPacks = kChunk / V;
  const int O = conv.conv.shape.O, room = chunks_of(O) * kChunk;
  const S* g = image_of<S>(conv.g, n);
  const S* y = conv.y.data ? image_of<S>(conv.y, n) : nullptr;
  for (int i = threadIdx.x; i < kProductRows * kPacks; i += kConvThreads) {
    const int pack = i % kPacks, m = i / kPacks, o = o0 + pack * V;
    const PixelOfGrad at = where(m);
    float v[V] = {};
    if (at.inside) {
      const int pixel = at.y * conv.g.W + at.x;
      load_channels(g + pixel * conv.g.ld, o, O, conv.g.vector, v);
#pragma unroll
      for (int k = 0; k < V; ++k) v[k] = coefficients[o + k] * v[k] + coefficients[2 * room + o + k];
      if (y) {
        float image[V];
        load_channels(y + pixel * conv.y.ld, o, O, conv.y.vector, image);
#pragma unroll
        for (int k = 0; k < V; ++k) v[k] += coefficients[room + o + k] * image[k];
      }
    }
#pragma unroll
    for (int k = 0; k < V; ++k)
      a[TileProduct<S, NB>::at_a(m, pack * V + k)] = from_float<S>(wanted.hold(o + k) ? v[k] : 0.0f);
  }
}

// Right factor [16][NB] of the transposed product: rows are channels from o0 on, columns input channels from i0 on.
template <class S, int NB>
__device__ __forceinline__ void load_transposed(const Conv2d& conv, int o0, int tap, int i0, const Shared<S>& b) {
  for (int i = threadIdx.x; i < kChunk * NB; i += kConvThreads) {
    const int n = i % NB, k = i / NB;
    b[TileProduct<S, NB>::at_b(k, n)] = from_float<S>(product_weight(conv, o0 + k, tap, i0 + n));
  }
}

}  // namespace nasfast::mixed_op
