// Shared-memory tiles of a convolution: its input, its weights, and the output of its front.
#pragma once

#include "../core/tile_product.cuh"
#include "depthwise.cuh"

namespace nasfast::mixed_op {

__host__ __device__ constexpr int chunks_of(int channels) { return (channels + kChunk - 1) / kChunk; }

// Scale and shift of the BatchNorm in front, [2][chunks][kChunk]; zero past the last channel. Barriers are the
// caller's.
__device__ __forceinline__ void load_norm(const Conv2d& conv, float eps, const Shared<float>& norm) {
  const int room = chunks_of(conv.shape.I) * kChunk;
  for (int c = threadIdx.x; c < room; c += kConvThreads) {
    float scale = 0, shift = 0;
    if (c < conv.shape.I) {
      const NormAt v = norm_at(conv.norm, conv.shape.I, c, eps);
      scale = v.scale();
      shift = v.shift();
    }
    norm[c] = scale;
    norm[room + c] = shift;
  }
}

__device__ __forceinline__ float through_input(Input mode, float v, const Shared<float>& norm, int c, int room) {
  if (mode == Input::kPlain) return v;
  if (mode == Input::kNormRelu) v = norm[c] * v + norm[room + c];
  return relu(v);
}

// kChunk channels from c0 of input pixel (iy, ix), as the convolution reads them; zero outside of the image.
// `pack` counts the pieces of kVector<S> channels; store(k, value) receives channel c0 + k.
template <class S, class Store>
__device__ __forceinline__ void read_input(const Conv2d& conv, const S* image, int iy, int ix, int c0, int pack,
                                           const Shared<float>& norm, const Store& store) {
  constexpr int V = kVector<S>;
  const int c = c0 + pack * V, room = chunks_of(conv.shape.I) * kChunk;
  const bool inside = iy >= 0 && iy < conv.shape.H && ix >= 0 && ix < conv.shape.W;
  float v[V];
  if (inside) {
    load_channels<S>(image + (iy * conv.shape.W + ix) * conv.in.ld, c, conv.shape.I, conv.in.vector, v);
  }
#pragma unroll
  for (int i = 0; i < V; ++i) store(pack * V + i, inside ? through_input(conv.mode, v[i], norm, c + i, room) : 0.0f);
}

// x[rows][width][kChunk]: input pixels from (y0, x0) on, `cols` of each row filled.
template <class S>
__device__ __forceinline__ void load_input_tile(const Conv2d& conv, int n, int y0, int x0, int rows, int cols,
                                                int width, int c0, const Shared<float>& norm, const Shared<float>& x) {
  constexpr int kPacks = kChunk / kVector<S>;
  const S* image = image_of<S>(conv.in, n);
  for (int i = threadIdx.x; i < rows * cols * kPacks; i += kConvThreads) {
    const int pack = i % kPacks, pixel = i / kPacks, r = pixel / cols, q = pixel - r * cols;
    const int at = (r * width + q) * kChunk;
    read_input<S>(conv, image, y0 + r, x0 + q, c0, pack, norm, [&](int k, float v) { x[at + k] = v; });
  }
}

// Weights of the depthwise kernel of `count` channels from c0: out[taps][count], reversed where `flipped`.
__device__ __forceinline__ void load_kernel(const Conv2d& conv, int c0, int count, bool flipped,
                                            const Shared<float>& out) {
  const int taps = conv.shape.kernel * conv.shape.kernel;
  for (int i = threadIdx.x; i < taps * count; i += kConvThreads) {
    const int c = i / taps, t = i - c * taps;
    out[(flipped ? taps - 1 - t : t) * count + c] =
        c0 + c < conv.shape.I ? load_param(conv.depthwise, (c0 + c) * taps + t) : 0.0f;
  }
}

// One weight of the product; zero past the last channels, and for the half of a factorized reduction on another tap.
__device__ __forceinline__ float product_weight(const Conv2d& conv, int o, int tap, int i) {
  const ConvShape& s = conv.shape;
  if (o >= s.O || i >= s.I) return 0;
  if (s.split == 0) return load_param(conv.product, (static_cast<int64_t>(o) * s.I + i) * s.taps + tap);
  if ((o < s.split) != (tap == 0)) return 0;
  return tap == 0 ? load_param(conv.product, o * s.I + i) : load_param(conv.product2, (o - s.split) * s.I + i);
}

// The front's output of a tile of output pixels, kProductRows rows of kChunk channels as the left factor of a product.
// `x` is the input tile (depthwise), with `halo` pixels more than its kernel needs on each side.
template <class S, int NB>
__device__ __forceinline__ void depthwise_tile(const ConvShape& s, const Shared<float>& x, int width, int margin,
                                               const Shared<float>& kernel, const Shared<S>& a) {
  const int row = threadIdx.x / kChunk, c = threadIdx.x % kChunk;
  float strip[kTile] = {};
  with_kernel(s.kernel, s.dilation, [&]<int K, int D>() {
    const int first = ((row * s.stride_y + margin) * width + margin) * kChunk + c;
    if (s.stride_y == 1)
      depthwise_strip<K, D, 1>(x, first, width * kChunk, kChunk, kernel, c, kChunk, strip);
    else
      depthwise_strip<K, D, 2>(x, first, width * kChunk, kChunk, kernel, c, kChunk, strip);
  });
#pragma unroll
  for (int j = 0; j < kTile; ++j) a[TileProduct<S, NB>::at_a(row * kTile + j, c)] = from_float<S>(strip[j]);
}

template <class S, int NB>
__device__ __forceinline__ void tap_tile(const Conv2d& conv, const TileAt& tile, int tap, int c0,
                                         const Shared<float>& norm, const Shared<S>& a) {
  constexpr int kPacks = kChunk / kVector<S>;
  const ConvShape& s = conv.shape;
  const S* image = image_of<S>(conv.in, tile.n);
  for (int i = threadIdx.x; i < kTilePixels * kPacks; i += kConvThreads) {
    const int pack = i % kPacks, p = i / kPacks;
    const int iy = (tile.y0 + p / kTile) * s.stride_y + s.tap_y + tap * s.step_y;
    const int ix = (tile.x0 + p % kTile) * s.stride_x + s.tap_x + tap * s.step_x;
    read_input<S>(conv, image, iy, ix, c0, pack, norm,
                  [&](int k, float v) { a[TileProduct<S, NB>::at_a(p, k)] = from_float<S>(v); });
  }
}

// Pixels of an input tile that `kTile` output pixels need, with `halo` more on both sides; odd widths, so that two rows
// start in different banks.
__host__ __device__ constexpr int input_reach(int stride, int halo) { return (kTile - 1) * stride + 1 + 2 * halo; }
__host__ __device__ constexpr int odd(int width) { return width | 1; }

}  // namespace nasfast::mixed_op
