// The weight gradients of a convolution, of a block: see conv_backward.cu.
#pragma once

#include "conv_gradient.cuh"

namespace nasfast::mixed_op {

// acc[OB][16] += transposed(dy) * d over the 64 pixels of a tile; dy as OB/16 left factors, d as one.
template <class T, int OB>
class OuterProduct {
  static constexpr int kTilesO = OB / kMmaM, kWarpsK = kConvThreads / 32 / kTilesO;
  using Product = TileProduct<T, OB>;

 public:
  __device__ __forceinline__ OuterProduct() {
#pragma unroll
    for (int t = 0; t < 2; ++t)
#pragma unroll
      for (int i = 0; i < 4; ++i) acc_[t][i] = 0;
  }

  __device__ __forceinline__ void step(const Shared<T>& dy, const Shared<T>& d) {
    const int lane = threadIdx.x % 32, group = lane / 4, member = lane % 4, warp = threadIdx.x / 32;
    const Shared<T> rows = dy.from(warp % kTilesO * Product::kSizeA);
#pragma unroll
    for (int k0 = warp / kTilesO * kMmaK; k0 < kProductRows; k0 += kWarpsK * kMmaK) {
      uint32_t a[4];
#pragma unroll
      for (int i = 0; i < 4; ++i) a[i] = pair(rows, k0 + 2 * member + i / 2 * 8, group + i % 2 * 8);
#pragma unroll
      for (int t = 0; t < 2; ++t) {
        uint32_t b[2];
#pragma unroll
        for (int i = 0; i < 2; ++i) b[i] = pair(d, k0 + 2 * member + i * 8, t * kMmaN + group);
        mma_16x8x16<T>(acc_[t], a, b);
      }
    }
  }

  // The sums into out[OB][16]. Several warps hold parts of one sum: they add in turn.
  __device__ __forceinline__ void write(const Shared<float>& out) const {
    const int lane = threadIdx.x % 32, warp = threadIdx.x / 32, turn = warp / kTilesO;
    for (int k = 0; k < kWarpsK; ++k) {
      __syncthreads();
      if (turn != k) continue;
#pragma unroll
      for (int t = 0; t < 2; ++t)
#pragma unroll
        for (int i = 0; i < 4; ++i) {
          const int o = warp % kTilesO * kMmaM + lane / 4 + i / 2 * 8, c = t * kMmaN + lane % 4 * 2 + i % 2;
          if (k == 0)
            out[o * kChunk + c] = acc_[t][i];
          else
            out[o * kChunk + c] += acc_[t][i];
        }
    }
    __syncthreads();
  }

 private:
  // Pixels p and p + 1 of one channel.
  __device__ __forceinline__ static uint32_t pair(const Shared<T>& tile, int p, int c) {
    return pair_bits(Pack<T, 2>{{tile[Product::at_a(p, c)], tile[Product::at_a(p + 1, c)]}});
  }

  float acc_[2][4];
};

template <int OB>
class OuterProduct<float, OB> {
  static constexpr int kWide = OB * kChunk / kConvThreads;  // neighbouring input channels of a thread
  using Product = TileProduct<float, OB>;
  static_assert(kWide == 2 || kWide == 4);

 public:
  __device__ __forceinline__ OuterProduct() {
#pragma unroll
    for (int i = 0; i < kWide; ++i) acc_[i] = 0;
  }

  __device__ __forceinline__ void step(const Shared<float>& dy, const Shared<float>& d) {
    const Shared<float> rows = dy.from(o() / kChunk * Product::kSizeA);
#pragma unroll 8
    for (int p = 0; p < kProductRows; ++p) {
      const float g = rows[Product::at_a(p, o() % kChunk)];
      const Pack<float, kWide> v = d.template load_vec<kWide>(Product::at_a(p, c()));
#pragma unroll
      for (int i = 0; i < kWide; ++i) acc_[i] += g * v[i];
    }
  }

  __device__ __forceinline__ void write(const Shared<float>& out) const {
    __syncthreads();
#pragma unroll
    for (int i = 0; i < kWide; ++i) out[o() * kChunk + c() + i] = acc_[i];
    __syncthreads();
  }

 private:
  __device__ __forceinline__ static int o() { return threadIdx.x / (kChunk / kWide); }
  __device__ __forceinline__ static int c() { return threadIdx.x % (kChunk / kWide) * kWide; }

  float acc_[kWide];
};

template <class S, int OB>
struct WeightShared {
  static constexpr int kGradients = OB / kChunk + 1;  // own channels; another chunk of them

  Shared<float> x, kernel, norm, coefficients, gd;
  Shared<S> dy, d, b;

  __device__ __forceinline__ WeightShared(SharedArena& arena, const BackwardArgs& args)
      : x(arena.take<float>(args.tile_elements)),
        kernel(arena.take<float>(args.kernel_elements)),
        norm(arena.take<float>(args.norm_elements)),
        coefficients(arena.take<float>(args.coefficient_elements)),
        gd(arena.take<float>(kTilePixels * kChunk)),
        dy(arena.take<S>(kGradients * TileProduct<S, OB>::kSizeA)),
        d(arena.take<S>(TileProduct<S, OB>::kSizeA)),
        b(arena.take<S>(TileProduct<S, kChunk>::kSizeB)) {}
  static size_t bytes(const BackwardArgs& args) {
    return shared_bytes<float>(args.tile_elements) + shared_bytes<float>(args.kernel_elements) +
           shared_bytes<float>(args.norm_elements) + shared_bytes<float>(args.coefficient_elements) +
           shared_bytes<float>(kTilePixels * kChunk) + shared_bytes<S>(kGradients * TileProduct<S, OB>::kSizeA) +
           shared_bytes<S>(TileProduct<S, OB>::kSizeA) + shared_bytes<S>(TileProduct<S, kChunk>::kSizeB);
  }
};

inline constexpr int kMaxKernel = 7;
inline constexpr int kTapRows = kConvThreads / kChunk;
inline constexpr int kTapSums = (kMaxKernel * kMaxKernel + kTapRows - 1) / kTapRows;

// Where in a block's work a weight gradient belongs.
struct WeightBlock {
  int split, i0, o0, tap;
  __device__ __forceinline__ WeightBlock(const BackwardConv& task, int OB, int local) {
    const ConvShape& s = task.conv.shape;
    const int chunks_i = chunks_of(s.I), chunks_o = (s.O + OB - 1) / OB;
    split = local % task.splits;
    local /= task.splits;
    i0 = local % chunks_i * kChunk;
    local /= chunks_i;
    o0 = local % chunks_o * OB;
    tap = local / chunks_o;
  }
};

// The gradient behind the depthwise convolution of a tile, for 16 input channels: dL/dy * weights.
template <class S, int OB>
__device__ __forceinline__ void product_gradient(const BackwardConv& task, const TileAt& tile, int i0,
                                                 const WeightShared<S, OB>& shared) {
  using Product = TileProduct<S, kChunk>;
  const ConvShape& s = task.conv.shape;
  const auto pixel = [&](int m) -> PixelOfGrad {
    return {tile.y0 + m / kTile, tile.x0 + m % kTile, m / kTile < tile.rows && m % kTile < tile.cols};
  };
  Product product;
  for (int o = 0; o < s.O; o += kChunk) {
    const int place = min(o / kChunk, OB / kChunk);  // past the block's own channels: loaded here
    const Shared<S> dy = shared.dy.from(place * Product::kSizeA);
    __syncthreads();
    if (place == OB / kChunk) load_gradient<S, kChunk>(task, tile.n, o, {0, s.O}, shared.coefficients, dy, pixel);
    load_transposed<S, kChunk>(task.conv, o, 0, i0, shared.b);
    __syncthreads();
    product.step(dy, shared.b);
  }
  product.emit([&](int row, int n, const auto& v) { shared.gd.store_vec(row * kChunk + n, v); });
  __syncthreads();
}

// Thread (tap, channel) adds gd * x over the pixels of a tile.
template <class S, int OB>
__device__ __forceinline__ void add_kernel_gradient(const ConvShape& s, int width, const WeightShared<S, OB>& shared,
                                                    float (&sums)[kTapSums]) {
  const int c = threadIdx.x % kChunk, first = threadIdx.x / kChunk, taps = s.kernel * s.kernel;
  int at[kTapSums];
#pragma unroll
  for (int k = 0; k < kTapSums; ++k) {
    const int tap = min(first + k * kTapRows, taps - 1);
    at[k] = ((tap / s.kernel) * width + tap % s.kernel) * s.dilation * kChunk + c;
  }
  for (int p = 0; p < kTilePixels; ++p) {
    const float g = shared.gd[p * kChunk + c];
    const int x = (p / kTile * s.stride_y * width + p % kTile * s.stride_x) * kChunk;
#pragma unroll
    for (int k = 0; k < kTapSums; ++k)
      if (first + k * kTapRows < taps) sums[k] += g * shared.x[x + at[k]];
  }
}

template <class S, int OB>
__device__ __forceinline__ void store_weight_gradient(const BackwardConv& task, const WeightBlock& block,
                                                      const OuterProduct<S, OB>& outer, const float (&sums)[kTapSums],
                                                      const WeightShared<S, OB>& shared) {
  const ConvShape& s = task.conv.shape;
  const int taps = s.kernel * s.kernel, layers = s.split > 0 ? 1 : s.taps;
  const int64_t product = static_cast<int64_t>(s.O) * s.I * layers;
  float* out = task.weight_partial + block.split * (product + s.I * taps);
  __syncthreads();
  const Shared<float> staged = shared.gd;  // OB <= 32, so that [OB][16] fits
  outer.write(staged);
  for (int i = threadIdx.x; i < OB * kChunk; i += kConvThreads) {
    const int o = block.o0 + i / kChunk, c = block.i0 + i % kChunk;
    if (o >= s.O || c >= s.I || (s.split > 0 && (o < s.split) != (block.tap == 0))) continue;
    const int64_t element = static_cast<int64_t>(o) * s.I + c;
    gstore(out + (s.split > 0 ? element : element * s.taps + block.tap), static_cast<float>(staged[i]));
  }
  if (block.o0 > 0) return;
  const int c = block.i0 + static_cast<int>(threadIdx.x) % kChunk;
#pragma unroll
  for (int k = 0; k < kTapSums; ++k) {
    const int tap = threadIdx.x / kChunk + k * kTapRows;
    if (tap < taps && c < s.I) gstore(out + product + c * taps + tap, sums[k]);
  }
}

template <class S, int OB>
__device__ __forceinline__ void weight_gradient(const BackwardArgs& args, SharedArena& arena) {
  const WeightShared<S, OB> shared(arena, args);
  const BackwardConv& task = args.conv[entry_of_block(args.conv, args.convs)];
  const Conv2d& conv = task.conv;
  const ConvShape& s = conv.shape;
  const WeightBlock block(task, OB, static_cast<int>(blockIdx.x) - task.block);
  const bool depthwise = s.kernel > 0;
  const int reach = input_reach(s.stride_y, s.pad), width = odd(reach);
  const int tiles = tile_count(args.N, s.h, s.w), each = (tiles + task.splits - 1) / task.splits;
  OuterProduct<S, OB> outer;
  float sums[kTapSums] = {};
  load_coefficients(task, shared.coefficients);
  if (conv.mode == Input::kNormRelu) load_norm(conv, args.eps, shared.norm);
  if (depthwise) load_kernel(conv, block.i0, kChunk, false, shared.kernel);
  for (int t = block.split * each; t < min((block.split + 1) * each, tiles); ++t) {
    const TileAt tile = tile_at(t, s.h, s.w);
    __syncthreads();
    for (int k = 0; k < OB / kChunk; ++k)
      load_gradient<S, OB>(task, tile.n, block.o0 + k * kChunk, {0, s.O}, shared.coefficients,
                           shared.dy.from(k * TileProduct<S, OB>::kSizeA), [&](int m) -> PixelOfGrad {
                             return {tile.y0 + m / kTile, tile.x0 + m % kTile,
                                     m / kTile < tile.rows && m % kTile < tile.cols};
                           });
    if (depthwise) {
      load_input_tile<S>(conv, tile.n, tile.y0 * s.stride_y - s.pad, tile.x0 * s.stride_x - s.pad, reach, reach, width,
                         block.i0, shared.norm, shared.x);
      __syncthreads();
      depthwise_tile<S, OB>(s, shared.x, width, 0, shared.kernel, shared.d);
    } else {
      tap_tile<S, OB>(conv, tile, block.tap, block.i0, shared.norm, shared.d);
    }
    __syncthreads();
    outer.step(shared.dy, shared.d);
    if (depthwise && block.o0 == 0) {
      product_gradient<S, OB>(task, tile, block.i0, shared);
      add_kernel_gradient<S, OB>(s, width, shared, sums);
    }
  }
  store_weight_gradient<S, OB>(task, block, outer, sums, shared);
}

}  // namespace nasfast::mixed_op
