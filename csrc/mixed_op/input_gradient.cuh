// The gradient of a convolution's input, of a block: see conv_backward.cu.
#pragma once

#include "conv_gradient.cuh"
#include "norm_backward.cuh"
#include "pool.cuh"
#include "statistics.cuh"

namespace nasfast::mixed_op {

// Per thread, for every 16 of NB channels, a strip of kTile pixels of row threadIdx.x / 16; rows in different banks.
template <int NB>
struct Strips {
  static constexpr int kRow = kTile * NB + kChunk, kSize = kTile * kRow;
  __device__ __forceinline__ static int at(int row, int j, int c) { return row * kRow + j * NB + c; }
};

// Pools of a tile: 12 x 12 pixels of the state, 10 x 10 pooled ones.
inline constexpr int kPoolInput = kTile + 4, kPoolOutput = kTile + 2;
inline constexpr int kPoolElements = (kPoolInput * kPoolInput + 3 * kPoolOutput * kPoolOutput) * kChunk;

template <class S, int NB>
struct InputShared {
  Shared<float> region, kernel, sum, coefficients, scratch;
  Shared<S> a, b;
  Shared<double> sums;

  __device__ __forceinline__ InputShared(SharedArena& arena, const BackwardArgs& args)
      : region(arena.take<float>(args.region_elements)),
        kernel(arena.take<float>(args.kernel_elements)),
        sum(arena.take<float>(Strips<NB>::kSize)),
        coefficients(arena.take<float>(args.coefficient_elements)),
        scratch(arena.take<float>(2 * kConvThreads)),
        a(arena.take<S>(TileProduct<S, NB>::kSizeA)),
        b(arena.take<S>(TileProduct<S, NB>::kSizeB)),
        sums(arena.take<double>(2 * kConvThreads)) {}
  static size_t bytes(const BackwardArgs& args) {
    return shared_bytes<float>(args.region_elements) + shared_bytes<float>(args.kernel_elements) +
           shared_bytes<float>(Strips<NB>::kSize) + shared_bytes<float>(args.coefficient_elements) +
           shared_bytes<float>(2 * kConvThreads) + shared_bytes<S>(TileProduct<S, NB>::kSizeA) +
           shared_bytes<S>(TileProduct<S, NB>::kSizeB) + shared_bytes<double>(2 * kConvThreads);
  }
};

// The pixels of dL/dy behind a depthwise convolution that reach a tile of its input, and those inside the image.
struct Region {
  int y0, x0, reach;
  int top, bottom, left, right;  // inside: rows [top, bottom), columns [left, right)

  __device__ __forceinline__ Region(const ConvShape& s, const TileAt& tile) {
    if (s.stride_y == 1) {
      y0 = tile.y0 - s.pad;
      x0 = tile.x0 - s.pad;
      reach = kTile + 2 * s.pad;
    } else {
      const int before = (s.pad + 1) / 2;
      y0 = tile.y0 / 2 - before;
      x0 = tile.x0 / 2 - before;
      reach = (kTile - 1 + s.pad) / 2 + before + 1;
    }
    top = max(0, -y0);
    bottom = min(reach, s.h - y0);
    left = max(0, -x0);
    right = min(reach, s.w - x0);
  }
  __device__ __forceinline__ int width() const { return odd(reach); }
};

// Product with the transposed weights, then the depthwise convolution backwards.
template <class S, int NB>
__device__ __forceinline__ void add_depthwise(const BackwardConv& task, const TileAt& tile, int i0,
                                              const InputShared<S, NB>& shared) {
  using Product = TileProduct<S, NB>;
  const ConvShape& s = task.conv.shape;
  const Region region(s, tile);
  const int width = region.width(), columns = region.right - region.left;
  const int pixels = (region.bottom - region.top) * columns;
  const Channels wanted{0, s.O};
  for (int i = threadIdx.x; i < region.reach * width * NB; i += kConvThreads) shared.region[i] = 0;
  load_kernel(task.conv, i0, NB, s.stride_y == 1, shared.kernel);
  for (int m0 = 0; m0 < pixels; m0 += kProductRows) {
    Product product;
    for (int o0 = 0; o0 < s.O; o0 += kChunk) {
      __syncthreads();
      load_transposed<S, NB>(task.conv, o0, 0, i0, shared.b);
      load_gradient<S, NB>(task, tile.n, o0, wanted, shared.coefficients, shared.a, [&](int m) -> PixelOfGrad {
        const int p = m0 + m, r = p / columns;
        return {region.y0 + region.top + r, region.x0 + region.left + p - r * columns, p < pixels};
      });
      __syncthreads();
      product.step(shared.a, shared.b);
    }
    product.emit([&](int row, int n, const auto& v) {
      const int p = m0 + row, r = p / columns;
      if (p < pixels) shared.region.store_vec(((region.top + r) * width + region.left + p - r * columns) * NB + n, v);
    });
  }
  __syncthreads();
  const int row = threadIdx.x / kChunk;
  for (int c = threadIdx.x % kChunk; c < NB; c += kChunk) {
    float strip[kTile] = {};
    with_kernel(s.kernel, s.dilation, [&]<int K, int D>() {
      if (s.stride_y == 1)
        depthwise_strip<K, D, 1>(shared.region, row * width * NB + c, width * NB, NB, shared.kernel, c, NB, strip);
      else
        depthwise_scatter<K, D>(shared.region, c, width * NB, NB, row, shared.kernel, c, NB, strip);
    });
#pragma unroll
    for (int j = 0; j < kTile; ++j) shared.sum[Strips<NB>::at(row, j, c)] += strip[j];
  }
}

// The same for taps: every input pixel gathers the output pixels that read it.
template <class S, int NB>
__device__ __forceinline__ void add_taps(const BackwardConv& task, const TileAt& tile, int i0,
                                         const InputShared<S, NB>& shared) {
  using Product = TileProduct<S, NB>;
  const ConvShape& s = task.conv.shape;
  Product product;
  for (int tap = 0; tap < s.taps; ++tap) {
    const int off_y = s.tap_y + tap * s.step_y, off_x = s.tap_x + tap * s.step_x;
    const Channels wanted{s.split > 0 && tap > 0 ? s.split : 0, s.split > 0 && tap == 0 ? s.split : s.O};
    for (int o0 = 0; o0 < s.O; o0 += kChunk) {
      __syncthreads();
      load_transposed<S, NB>(task.conv, o0, tap, i0, shared.b);
      load_gradient<S, NB>(task, tile.n, o0, wanted, shared.coefficients, shared.a, [&](int m) -> PixelOfGrad {
        const int y = tile.y0 + m / kTile - off_y, x = tile.x0 + m % kTile - off_x;
        const bool divides = y >= 0 && x >= 0 && y % s.stride_y == 0 && x % s.stride_x == 0;
        return {y / s.stride_y, x / s.stride_x, divides && y / s.stride_y < s.h && x / s.stride_x < s.w};
      });
      __syncthreads();
      product.step(shared.a, shared.b);
    }
  }
  product.emit([&](int row, int n, const auto& v) { shared.region.store_vec(row * NB + n, v); });
  __syncthreads();
  const int row = threadIdx.x / kChunk;
  for (int c = threadIdx.x % kChunk; c < NB; c += kChunk)
    for (int j = 0; j < kTile; ++j) shared.sum[Strips<NB>::at(row, j, c)] += shared.region[(row * kTile + j) * NB + c];
}

// Where the input's relu was closed, nothing flows.
template <class S, int NB>
__device__ __forceinline__ void mask_strips(const InputGrad& input, const TileAt& tile, int i0, float eps,
                                            const InputShared<S, NB>& shared) {
  if (input.mode == Input::kPlain) return;
  const int row = threadIdx.x / kChunk;
  const S* image = image_of<S>(input.x, tile.n) + (tile.y0 + row) * input.x.W * input.x.ld;
  for (int c = threadIdx.x % kChunk; c < NB && i0 + c < input.x.C && row < tile.rows; c += kChunk) {
    float scale = 1, shift = 0;
    if (input.mode == Input::kNormRelu) {
      const NormAt norm = norm_at(input.norm, input.x.C, i0 + c, eps);
      scale = norm.scale();
      shift = norm.shift();
    }
    for (int j = 0; j < tile.cols; ++j) {
      const int at = Strips<NB>::at(row, j, c);
      const float x = to_float(gload(image + (tile.x0 + j) * input.x.ld + i0 + c));
      shared.sum[at] = below_relu(shared.sum[at], scale * x + shift);
    }
  }
}

// a*g + b*y + c. Given statistics do not depend on y, so that its NaN stays out of the gradient.
__device__ __forceinline__ float pool_gradient(bool batch_stats, const float* coefficients, int C, int c, float g,
                                               float y) {
  const float v = gload(coefficients + c) * g;
  return batch_stats ? v + gload(coefficients + C + c) * y + gload(coefficients + 2 * C + c) : v;
}

// The gradient that a pool's BatchNorms send back to one pooled value.
template <class S>
__device__ __forceinline__ void pool_gradients(const BackwardArgs& args, const InputGrad& input, int n, int oy, int ox,
                                               int c, float average, float maximum, float* to_average,
                                               float* to_maximum) {
  const int C = input.x.C;
  float ga = 0, gm = 0;
  for (int k = input.first_pool; k < input.first_pool + input.pools; ++k) {
    const PoolGrad& pool = args.pool[k];
    const float g = to_float(gload(image_of<S>(pool.g, n) + (oy * pool.g.W + ox) * pool.g.ld + c));
    if (pool.average) ga += pool_gradient(args.batch_stats, pool.average, C, c, g, average);
    if (pool.maximum) gm += pool_gradient(args.batch_stats, pool.maximum, C, c, g, maximum);
  }
  *to_average = ga;
  *to_maximum = gm;
}

// Both pools of all edges, backwards, for 16 channels from c0 on (sub: which of the block's).
template <class S, int NB>
__device__ __forceinline__ void add_pools(const BackwardArgs& args, const InputGrad& input, const TileAt& tile, int i0,
                                          int sub, const InputShared<S, NB>& shared) {
  const Shared<float> x = shared.region, average = x.from(kPoolInput * kPoolInput * kChunk);
  const Shared<float> maximum = average.from(kPoolOutput * kPoolOutput * kChunk);
  const Shared<float> taps = maximum.from(kPoolOutput * kPoolOutput * kChunk);
  const int H = input.x.H, W = input.x.W, stride = input.pool_stride, channel = threadIdx.x % kChunk;
  const int c = i0 + sub * kChunk + channel, rows = kConvThreads / kChunk, first = threadIdx.x / kChunk;
  const int h = (H + stride - 1) / stride, w = (W + stride - 1) / stride;
  const int y0 = tile.y0 - 2, x0 = tile.x0 - 2;  // of the state's pixels
  const int oy0 = stride == 1 ? tile.y0 - 1 : tile.y0 / 2, ox0 = stride == 1 ? tile.x0 - 1 : tile.x0 / 2;
  const int reach = stride == 1 ? kPoolOutput : kTile / 2 + 1;
  const bool channel_inside = c < input.x.C;
  const S* image = image_of<S>(input.x, tile.n);
  __syncthreads();
  for (int p = first; p < kPoolInput * kPoolInput; p += rows) {
    const int iy = y0 + p / kPoolInput, ix = x0 + p % kPoolInput;
    const bool inside = channel_inside && iy >= 0 && iy < H && ix >= 0 && ix < W;
    x[p * kChunk + channel] = inside ? to_float(gload(image + (iy * W + ix) * input.x.ld + c)) : 0.0f;
  }
  __syncthreads();
  for (int p = first; p < reach * reach; p += rows) {
    const int oy = oy0 + p / reach, ox = ox0 + p % reach, at = p * kChunk + channel;
    float ga = 0, gm = 0;
    int tap = -1;
    if (channel_inside && oy >= 0 && oy < h && ox >= 0 && ox < w) {
      Pooled<1> pooled;
      for (int k = 0; k < kPoolReach * kPoolReach; ++k) {
        const int iy = oy * stride + k / kPoolReach - 1, ix = ox * stride + k % kPoolReach - 1;
        if (iy < 0 || iy >= H || ix < 0 || ix >= W) continue;
        const float v[1] = {x[((iy - y0) * kPoolInput + ix - x0) * kChunk + channel]};
        pooled.take(v, k);
      }
      pool_gradients<S>(args, input, tile.n, oy, ox, c, pooled.average(0), pooled.best[0], &ga, &gm);
      ga /= static_cast<float>(pooled.count);
      tap = pooled.tap[0];
    }
    average[at] = ga;
    maximum[at] = gm;
    taps[at] = static_cast<float>(tap);
  }
  __syncthreads();
  for (int j = 0; j < kTile; ++j) {
    float sum = 0;
    for (int k = 0; k < kPoolReach * kPoolReach; ++k) {
      const int ty = tile.y0 + first + 1 - k / kPoolReach, tx = tile.x0 + j + 1 - k % kPoolReach;
      if (ty < 0 || tx < 0 || ty % stride != 0 || tx % stride != 0) continue;
      const int at = ((ty / stride - oy0) * reach + tx / stride - ox0) * kChunk + channel;
      sum += average[at];
      if (taps[at] == static_cast<float>(k)) sum += maximum[at];
    }
    shared.sum[Strips<NB>::at(first, j, sub * kChunk + channel)] += sum;
  }
}

// Skips and what flows in from elsewhere, and the one write. The sum holds what was stored afterwards.
template <class S, int NB>
__device__ __forceinline__ void store_gradient(const BackwardArgs& args, const InputGrad& input, const TileAt& tile,
                                               int i0, const InputShared<S, NB>& shared) {
  constexpr int V = kVector<S>, kPacks = NB / V;
  const int C = input.x.C;
  __syncthreads();
  for (int i = threadIdx.x; i < kTilePixels * kPacks; i += kConvThreads) {
    const int pack = i % kPacks, p = i / kPacks, r = p / kTile, q = p % kTile, c = i0 + pack * V;
    if (r >= tile.rows || q >= tile.cols || c >= C) continue;
    const int at = Strips<NB>::at(r, q, pack * V), pixel = (tile.y0 + r) * input.x.W + tile.x0 + q;
    float v[V], more[V];
#pragma unroll
    for (int k = 0; k < V; ++k) v[k] = shared.sum[at + k];
    for (int s = input.first_skip; s < input.first_skip + input.skips; ++s) {
      const SkipGrad& skip = args.skip[s];
      const float w = gload(skip.weight);
      load_channels(image_of<S>(skip.g, tile.n) + pixel * skip.g.ld, c, C, skip.g.vector, more);
#pragma unroll
      for (int k = 0; k < V; ++k) v[k] += w * more[k];
    }
    if (input.extra.data) {
      load_channels(image_of<S>(input.extra, tile.n) + pixel * input.extra.ld, c, C, input.extra.vector, more);
#pragma unroll
      for (int k = 0; k < V; ++k) v[k] += more[k];
    }
    store_channels(image_of<S>(input.out, tile.n) + pixel * input.out.ld, c, C, input.out.vector, v);
    if (input.partial) {
#pragma unroll
      for (int k = 0; k < V; ++k) shared.sum[at + k] = rounded<S>(v[k]);
    }
  }
}

// sum gz and sum gz*x of a tile, added to the block's slot.
template <class S, int NB>
__device__ __forceinline__ void add_sums(const InputGrad& input, const TileAt& tile, int i0, int run, bool first,
                                         const InputShared<S, NB>& shared) {
  constexpr int kParts = kConvThreads / NB;
  const int C = input.x.C, c = threadIdx.x % NB, part = threadIdx.x / NB, channel = i0 + c;
  const S* image = image_of<S>(input.x, tile.n);
  float total = 0, dot = 0;
  __syncthreads();
  for (int p = part; p < kTilePixels && channel < C; p += kParts) {
    const int r = p / kTile, q = p % kTile;
    if (r >= tile.rows || q >= tile.cols) continue;
    const float g = shared.sum[Strips<NB>::at(r, q, c)];
    total += g;
    dot += g * to_float(gload(image + ((tile.y0 + r) * input.x.W + tile.x0 + q) * input.x.ld + channel));
  }
  shared.scratch[threadIdx.x] = total;
  shared.scratch[kConvThreads + threadIdx.x] = dot;
  __syncthreads();
  if (threadIdx.x >= NB || channel >= C) return;
  for (int i = 1; i < kParts; ++i) {
    total += shared.scratch[i * NB + c];
    dot += shared.scratch[kConvThreads + i * NB + c];
  }
  float* slot = input.partial + static_cast<int64_t>(run) * 2 * C;
  gstore(slot + channel, first ? total : gload(slot + channel) + total);
  gstore(slot + C + channel, first ? dot : gload(slot + C + channel) + dot);
}

template <class S, int NB>
__device__ __forceinline__ void input_gradient(const BackwardArgs& args, SharedArena& arena) {
  const InputShared<S, NB> shared(arena, args);
  const InputGrad& input = args.input[entry_of_block(args.input, args.inputs)];
  const int local = static_cast<int>(blockIdx.x) - input.block, run = local % input.runs, chunk = local / input.runs;
  const int i0 = chunk * NB, C = input.x.C, H = input.x.H, W = input.x.W;
  const int first = run * input.run_tiles, end = min(first + input.run_tiles, tile_count(args.N, H, W));
  for (int t = first; t < end; ++t) {
    const TileAt tile = tile_at(t, H, W);
    __syncthreads();
    for (int c = threadIdx.x % kChunk; c < NB; c += kChunk)
      for (int j = 0; j < kTile; ++j) shared.sum[Strips<NB>::at(threadIdx.x / kChunk, j, c)] = 0;
    for (int k = input.first_conv; k < input.first_conv + input.convs; ++k) {
      const BackwardConv& conv = args.conv[k];
      __syncthreads();
      load_coefficients(conv, shared.coefficients);
      if (conv.conv.shape.kernel > 0)
        add_depthwise<S, NB>(conv, tile, i0, shared);
      else
        add_taps<S, NB>(conv, tile, i0, shared);
    }
    mask_strips<S, NB>(input, tile, i0, args.eps, shared);
    if (input.pools > 0)
      for (int sub = 0; sub < NB / kChunk; ++sub) add_pools<S, NB>(args, input, tile, i0, sub, shared);
    store_gradient<S, NB>(args, input, tile, i0, shared);
    if (input.partial) add_sums<S, NB>(input, tile, i0, run, t == first, shared);
  }
  if (!input.partial || !last_block(input.counters + chunk, input.runs)) return;
  sum_runs<NB, 2, kConvThreads>(
      input.runs, min(NB, C - i0), shared.sums,
      [&](int r, int c, double (&v)[2]) {
        const float* slot = input.partial + static_cast<int64_t>(r) * 2 * C + i0 + c;
        v[0] = gload(slot);
        v[1] = gload(slot + C);
      },
      [&](int c, const double (&v)[2]) {
        const double count = static_cast<double>(args.N) * H * W;
        const NormAt norm = norm_at(input.norm, C, i0 + c, args.eps);
        store_norm_grad(norm_backward(norm, 1.0, count, args.batch_stats, v[0], v[1]), C, i0 + c, input.coefficients,
                        input.gamma_grad, input.beta_grad);
      });
}

}  // namespace nasfast::mixed_op
