// The sums of a node's backward: for its gradient G, S0 = sum G and S1 = sum G*y of every candidate y on every edge
// into it, per channel. What follows from them at once:
//
//   architecture gradients  dL/dw = sum over channels of gamma*rstd*(S1 - mean*S0) + beta*S0; sum G*x for a skip
//   BatchNorm's gradients   dL/dgamma = w*rstd*(S1 - mean*S0), dL/dbeta = w*S0
//   coefficients            dL/dy = a*G + b*y + c with a = w*gamma*rstd, b = -a*rstd^2*(S1 - mean*S0)/M,
//                           c = -a*S0/M - b*mean over M values a channel; b = c = 0 for given statistics
//
//   unit     up to four images of one edge, or the pools and the skip of one; units run side by side
//   block    128 threads: a run of pixels of a unit, up to 64 channels (lanes.cuh); pools are computed from the state
//   sums     float32 per thread, then per block and over all blocks in a fixed order, in float64
#include "../core/lanes.cuh"
#include "../core/launch.h"
#include "kernels_cuda.h"
#include "norm_backward.cuh"
#include "pool.cuh"
#include "statistics.cuh"

namespace nasfast::mixed_op {
namespace {

constexpr int kColumns = 1 + kUnitRows;

struct ProductShared {
  Shared<float> lanes;  // [lane][channels]
  Shared<double> sums, alpha;
  __device__ __forceinline__ explicit ProductShared(SharedArena& arena)
      : lanes(arena.take<float>(kLaneThreads * 8)),
        sums(arena.take<double>(kColumns * kLaneThreads)),
        alpha(arena.take<double>(kUnitRows * kChunk)) {}
  static constexpr size_t bytes() {
    return shared_bytes<float>(kLaneThreads * 8) + shared_bytes<double>(kColumns * kLaneThreads) +
           shared_bytes<double>(kUnitRows * kChunk);
  }
};

template <int V>
__device__ __forceinline__ void settle_sum(const Lanes<V>& lanes, const float (&mine)[V], const Shared<float>& scratch,
                                           float* slot) {
  const int row = lanes.packs * V;
  __syncthreads();
  if (!lanes.idle()) {
#pragma unroll
    for (int i = 0; i < V; ++i) scratch[lanes.lane * row + lanes.pack * V + i] = mine[i];
  }
  __syncthreads();
  const int c = threadIdx.x;
  if (c >= lanes.channels) return;
  float total = 0;
  for (int l = 0; l < lanes.lanes; ++l) total += scratch[l * row + c];
  gstore(slot + lanes.c0 + c, total);
}

// The value of each row of a unit at one pixel.
template <class S, int V>
__device__ __forceinline__ void load_rows(const ProductArgs& args, const ProductUnit& unit, int64_t pixel, int c,
                                          float (&v)[kUnitRows][V]) {
  const ProductRow* rows = args.row + unit.first;
  if (unit.images) {
#pragma unroll
    for (int r = 0; r < kUnitRows; ++r)
      if (r < unit.rows) load_channels(static_cast<const S*>(rows[r].x.data) + pixel * rows[r].x.ld, c, unit.g.C, v[r]);
    return;
  }
  const View& x = rows[0].x;
  const PixelAt at = pixel_at(pixel, unit.g.H, unit.g.W);
  const Pooled<V> pooled = pool_at<S, V>(x, image_of<S>(x, at.n), at.y, at.x, unit.stride, c);
#pragma unroll
  for (int r = 0; r < kUnitRows; ++r)
    if (r < unit.rows) {
#pragma unroll
      for (int i = 0; i < V; ++i)
        v[r][i] = rows[r].kind == RowKind::kAverage   ? pooled.average(i)
                  : rows[r].kind == RowKind::kMaximum ? pooled.best[i]
                                                      : pooled.centre[i];
    }
}

// One channel of a unit whose sums are known; alpha receives its part of the architecture gradients.
__device__ __forceinline__ void finish_channel(const ProductArgs& args, const ProductUnit& unit, int c, int lane,
                                               const double (&sums)[kColumns], const Shared<double>& alpha) {
  const int C = unit.g.C;
  const double count = static_cast<double>(args.N) * unit.g.H * unit.g.W;
#pragma unroll
  for (int r = 0; r < kUnitRows; ++r) {
    if (r >= unit.rows) continue;
    const ProductRow& row = args.row[unit.first + r];
    const float w = row.weight ? gload(row.weight) : 1.0f;
    if (row.norm.stats) {
      const NormGrad grad =
          norm_backward(norm_at(row.norm, C, c, args.eps), w, count, args.batch_stats, sums[0], sums[1 + r]);
      alpha[r * kChunk + lane] = grad.weight;
      store_norm_grad(grad, C, c, row.coefficients, row.gamma_grad, row.beta_grad);
    } else {
      alpha[r * kChunk + lane] = sums[1 + r];
      if (row.coefficients) store_coefficients(row.coefficients, C, c, w, 0, 0);
    }
  }
}

__device__ __forceinline__ void finish_unit(const ProductArgs& args, const ProductUnit& unit,
                                            const ProductShared& shared) {
  const int C = unit.g.C, columns = 1 + unit.rows;
  double alpha = 0;
  for (int c0 = 0; c0 < C; c0 += kChunk) {
    __syncthreads();
    if (threadIdx.x < kUnitRows * kChunk) shared.alpha[threadIdx.x] = 0;
    sum_runs<kChunk, kColumns, kLaneThreads>(
        unit.runs, min(kChunk, C - c0), shared.sums,
        [&](int run, int c, double (&v)[kColumns]) {
#pragma unroll
          for (int k = 0; k < kColumns; ++k)
            v[k] = k < columns ? gload(unit.partial + (static_cast<int64_t>(run) * columns + k) * C + c0 + c) : 0.0f;
        },
        [&](int c, const double (&v)[kColumns]) { finish_channel(args, unit, c0 + c, c, v, shared.alpha); });
    __syncthreads();
    if (static_cast<int>(threadIdx.x) < unit.rows)
      for (int c = 0; c < kChunk; ++c) alpha += shared.alpha[threadIdx.x * kChunk + c];
  }
  if (static_cast<int>(threadIdx.x) < unit.rows) {
    const ProductRow& row = args.row[unit.first + threadIdx.x];
    if (row.alpha_grad) gstore(row.alpha_grad, static_cast<float>(alpha));
  }
}

// With 8 channels a thread, the blocks of a multiprocessor are named: of itself ptxas spills to make room for more.
template <class S, int V>
__global__ void __launch_bounds__(kLaneThreads, V == 8 ? 3 : 0)
    products_kernel(const NASFAST_GRID_CONSTANT ProductArgs args) {
  SharedArena arena;
  const ProductShared shared(arena);
  const ProductUnit& unit = args.unit[entry_of_block(args.unit, args.units)];
  const int local = static_cast<int>(blockIdx.x) - unit.block, run = local % unit.runs, group = local / unit.runs;
  const int C = unit.g.C, columns = 1 + unit.rows;
  const Lanes<V> lanes(group, run, unit.runs, C, static_cast<int64_t>(args.N) * unit.g.H * unit.g.W);
  float total[V] = {}, dot[kUnitRows][V] = {};
  if (!lanes.idle()) {
    for (int64_t p = lanes.begin + lanes.lane; p < lanes.end; p += lanes.lanes) {
      float g[V], v[kUnitRows][V] = {};
      load_channels(static_cast<const S*>(unit.g.data) + p * unit.g.ld, lanes.channel(), C, g);
      load_rows<S, V>(args, unit, p, lanes.channel(), v);
#pragma unroll
      for (int i = 0; i < V; ++i) {
        total[i] += g[i];
#pragma unroll
        for (int r = 0; r < kUnitRows; ++r) dot[r][i] += g[i] * v[r][i];
      }
    }
  }
  float* slot = unit.partial + static_cast<int64_t>(run) * columns * C;
  settle_sum(lanes, total, shared.lanes, slot);
#pragma unroll
  for (int r = 0; r < kUnitRows; ++r)
    if (r < unit.rows) settle_sum(lanes, dot[r], shared.lanes, slot + (1 + r) * C);
  if (last_block(unit.counters, unit.runs * lane_groups(C))) finish_unit(args, unit, shared);
}

}  // namespace

template <class S>
void launch_products(const ProductArgs& args, bool vector, int64_t blocks, cudaStream_t stream) {
  const LaunchConfig config{"products", make_grid("products", blocks), dim3(kLaneThreads), ProductShared::bytes(),
                            stream};
  if (vector)
    launch(config, products_kernel<S, kVector<S>>, args);
  else
    launch(config, products_kernel<S, 1>, args);
}

template void launch_products<float>(const ProductArgs&, bool, int64_t, cudaStream_t);
template void launch_products<bf16_t>(const ProductArgs&, bool, int64_t, cudaStream_t);
template void launch_products<half_t>(const ProductArgs&, bool, int64_t, cudaStream_t);

}  // namespace nasfast::mixed_op
