// Convolutions of the mixed op, forward: y = product * front(relu(x)), and the mean and variance of y.
//
//   front    depthwise k x k (strides 1 and 2, dilation 1 and 2), or taps: shifted copies of the input side by side,
//            which makes 1x7 and 7x1 convolutions and factorized reductions products of taps*I channels
//   input    a state through relu, or the y of a convolution before through BatchNorm and relu, which is applied while
//            it is read and never stored
//   block    128 threads: 8 x 8 output pixels of one image, up to NB output channels, all convolutions of a group (the
//            first ones of an edge, which read the same tile of the state); a run of tiles one after another
//   product  64 pixels x NB channels, core/tile_product.cuh; input channels in chunks of 16
//   sums     float32; statistics as in statistics.cuh: per block, then added up by the last block in a fixed order.
//            Results do not depend on the order in which blocks or threads run.
//
// Reading a state once for all candidates, and taking the statistics while y is in shared memory, leaves one read of x
// and one write of every y: what eager does in two reads and three writes per candidate.
#include "../core/launch.h"
#include "conv_tiles.cuh"
#include "kernels_cuda.h"
#include "statistics.cuh"

namespace nasfast::mixed_op {
namespace {

template <int NB>
struct Staged {  // y of a tile, [64][NB]
  static constexpr int kLd = NB + 4, kSize = kTilePixels * kLd;
};

template <class S, int NB>
struct ForwardShared {
  Shared<float> x, kernel, norm, y, scratch;
  Shared<S> a, b;
  Shared<double> sums;

  __device__ __forceinline__ ForwardShared(SharedArena& arena, const ForwardArgs& args)
      : x(arena.take<float>(args.tile_elements)),
        kernel(arena.take<float>(args.kernel_elements)),
        norm(arena.take<float>(args.norm_elements)),
        y(arena.take<float>(Staged<NB>::kSize)),
        scratch(arena.take<float>(2 * kConvThreads)),
        a(arena.take<S>(TileProduct<S, NB>::kSizeA)),
        b(arena.take<S>(TileProduct<S, NB>::kSizeB)),
        sums(arena.take<double>(3 * kConvThreads)) {}
};

// The output channels that a factorized reduction takes from this tap. A choice, not a sum with products of zeros: NaN
// stays in its half.
template <class S, int NB>
__device__ __forceinline__ void stage_half(const ConvShape& s, int tap, int o0, const TileProduct<S, NB>& product,
                                           const Shared<float>& y) {
  product.emit([&]<int N>(int row, int n, const Pack<float, N>& v) {
#pragma unroll
    for (int k = 0; k < N; ++k)
      if ((o0 + n + k < s.split) == (tap == 0)) y[row * Staged<NB>::kLd + n + k] = v[k];
  });
}

template <class S, int NB>
__device__ __forceinline__ void convolve_tile(const ForwardArgs& args, const ForwardGroup& group,
                                              const ForwardConv& task, const TileAt& tile, int o0, bool tile_is_loaded,
                                              const ForwardShared<S, NB>& shared) {
  using Product = TileProduct<S, NB>;
  const Conv2d& conv = task.conv;
  const ConvShape& s = conv.shape;
  Product product;
  __syncthreads();
  if (conv.mode == Input::kNormRelu) {
    load_norm(conv, args.eps, shared.norm);
    __syncthreads();
  }
  const bool depthwise = s.kernel > 0;
  const int reach = input_reach(s.stride_y, group.halo), width = odd(reach);
  for (int tap = 0; tap < s.taps; ++tap) {
    for (int c0 = 0; c0 < s.I; c0 += kChunk) {
      if (tap + c0 > 0) __syncthreads();
      for (int i = threadIdx.x; i < kChunk * NB; i += kConvThreads) {
        const int k = i % kChunk, n = i / kChunk;
        shared.b[Product::at_b(k, n)] = from_float<S>(product_weight(conv, o0 + n, tap, c0 + k));
      }
      if (depthwise) {
        load_kernel(conv, c0, kChunk, false, shared.kernel);
        if (!tile_is_loaded)
          load_input_tile<S>(conv, tile.n, tile.y0 * s.stride_y - group.halo, tile.x0 * s.stride_x - group.halo, reach,
                             reach, width, c0, shared.norm, shared.x);
        __syncthreads();
        depthwise_tile<S, NB>(s, shared.x, width, group.halo - s.pad, shared.kernel, shared.a);
      } else {
        tap_tile<S, NB>(conv, tile, tap, c0, shared.norm, shared.a);
      }
      __syncthreads();
      product.step(shared.a, shared.b);
    }
    if (s.split == 0) continue;
    stage_half<S, NB>(s, tap, o0, product, shared.y);
    product.clear();
  }
  if (s.split == 0)
    product.emit([&](int row, int n, const auto& v) { shared.y.store_vec(row * Staged<NB>::kLd + n, v); });
  __syncthreads();
}

template <class S, int NB>
__device__ __forceinline__ void store_tile(const View& y, const TileAt& tile, int o0, const Shared<float>& staged) {
  constexpr int V = kVector<S>, kPacks = NB / V;
  S* image = image_of<S>(y, tile.n);
  for (int i = threadIdx.x; i < kTilePixels * kPacks; i += kConvThreads) {
    const int pack = i % kPacks, p = i / kPacks, r = p / kTile, q = p % kTile;
    if (r >= tile.rows || q >= tile.cols) continue;
    float v[V];
#pragma unroll
    for (int k = 0; k < V; k += 4) {
      const Pack<float, 4> four = staged.template load_vec<4>(p * Staged<NB>::kLd + pack * V + k);
#pragma unroll
      for (int j = 0; j < 4; ++j) v[k + j] = four[j];
    }
    store_channels(image + ((tile.y0 + r) * y.W + tile.x0 + q) * y.ld, o0 + pack * V, y.C, y.vector, v);
  }
}

template <class S, int NB>
__global__ void __launch_bounds__(kConvThreads, NB == 64 ? 3 : 4)
    conv_forward_kernel(const NASFAST_GRID_CONSTANT ForwardArgs args) {
  SharedArena arena;
  const ForwardShared<S, NB> shared(arena, args);
  const ForwardGroup& group = args.group[entry_of_block(args.group, args.groups)];
  const int local = static_cast<int>(blockIdx.x) - group.block, run = local % group.runs, chunk = local / group.runs;
  const int o0 = chunk * NB;
  const ConvShape& shape = args.conv[group.first].conv.shape;
  const int first = run * group.run_tiles, end = min(first + group.run_tiles, tile_count(args.N, shape.h, shape.w));
  for (int t = first; t < end; ++t) {
    const TileAt tile = tile_at(t, shape.h, shape.w);
    for (int k = 0; k < group.count; ++k) {
      const ForwardConv& task = args.conv[group.first + k];
      convolve_tile<S, NB>(args, group, task, tile, o0, group.shared_tile && k > 0, shared);
      store_tile<S, NB>(task.y, tile, o0, shared.y);
      if (!task.stats) continue;
      const Moments moments = tile_moments<NB>(
          tile, shared.scratch, [&](int p, int c) { return rounded<S>(shared.y[p * Staged<NB>::kLd + c]); });
      const int c = o0 + static_cast<int>(threadIdx.x);
      if (threadIdx.x < NB && c < shape.O) {
        float* slot = task.partial + static_cast<int64_t>(run) * kMomentRows * shape.O;
        store_moments(slot, shape.O, c, t == first ? moments : merged(load_moments(slot, shape.O, c), moments));
      }
    }
  }
  if (!group.counters || !last_block(group.counters + chunk, group.runs)) return;
  for (int k = 0; k < group.count; ++k) {
    const ForwardConv& task = args.conv[group.first + k];
    if (!task.stats) continue;
    finish_statistics<NB, kConvThreads>(task.partial, kMomentRows * shape.O, group.runs, shape.O, o0,
                                        min(NB, shape.O - o0), shared.sums, [&](int c, float mean, float variance) {
                                          gstore(task.stats + c, mean);
                                          gstore(task.stats + shape.O + c, variance);
                                        });
  }
}

template <class S, int NB>
void launch_width(const ForwardArgs& args, int64_t blocks, cudaStream_t stream) {
  using Product = TileProduct<S, NB>;
  const size_t shared = shared_bytes<float>(args.tile_elements) + shared_bytes<float>(args.kernel_elements) +
                        shared_bytes<float>(args.norm_elements) + shared_bytes<float>(Staged<NB>::kSize) +
                        shared_bytes<float>(2 * kConvThreads) + shared_bytes<S>(Product::kSizeA) +
                        shared_bytes<S>(Product::kSizeB) + shared_bytes<double>(3 * kConvThreads);
  const char* name = "conv_forward";
  launch({name, make_grid(name, blocks), dim3(kConvThreads), shared, stream}, conv_forward_kernel<S, NB>, args);
}

}  // namespace

template <class S>
void launch_conv_forward(const ForwardArgs& args, int width, int64_t blocks, cudaStream_t stream) {
  if (width == 16) return launch_width<S, 16>(args, blocks, stream);
  if (width == 32) return launch_width<S, 32>(args, blocks, stream);
  launch_width<S, 64>(args, blocks, stream);
}

template void launch_conv_forward<float>(const ForwardArgs&, int, int64_t, cudaStream_t);
template void launch_conv_forward<bf16_t>(const ForwardArgs&, int, int64_t, cudaStream_t);
template void launch_conv_forward<half_t>(const ForwardArgs&, int, int64_t, cudaStream_t);

}  // namespace nasfast::mixed_op
