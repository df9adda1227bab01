// Mean and variance of both 3x3 pools of a state, for the BatchNorms behind them. The pools are not stored: the node's
// sum, its products and its gradients compute them again from the state.
//
//   block    128 threads: a run of pixels of one state, up to 64 channels (lanes.cuh)
//   sums     per thread in float32 around its first value, then in float64: over the lanes of a block, and by the last
//            block over all blocks, always in the same order
// All edges that leave a state share one result.
#include "../core/lanes.cuh"
#include "../core/launch.h"
#include "kernels_cuda.h"
#include "pool.cuh"
#include "statistics.cuh"

namespace nasfast::mixed_op {
namespace {

template <int V>
struct RunningMoments {
  float first[V], sum[V], square[V];
  int count = 0;

  __device__ __forceinline__ void take(const float (&v)[V]) {
#pragma unroll
    for (int i = 0; i < V; ++i) {
      if (count == 0) {
        first[i] = v[i];
        sum[i] = square[i] = 0;
      }
      const float t = v[i] - first[i];
      sum[i] += t;
      square[i] += t * t;
    }
    ++count;
  }
  __device__ __forceinline__ Moments moments(int i) const {
    if (count == 0) return {0, 0, 0, 0};
    const float n = static_cast<float>(count), mean = sum[i] / n;
    return {n, first[i], mean, square[i] - sum[i] * mean};
  }
};

struct PoolShared {
  static constexpr int kSize = kLaneThreads * 8;
  Shared<float> shift, off, m2, count;
  Shared<double> sums;
  __device__ __forceinline__ explicit PoolShared(SharedArena& arena)
      : shift(arena.take<float>(kSize)),
        off(arena.take<float>(kSize)),
        m2(arena.take<float>(kSize)),
        count(arena.take<float>(kLaneThreads)),
        sums(arena.take<double>(3 * kLaneThreads)) {}
  static constexpr size_t bytes() {
    return 3 * shared_bytes<float>(kSize) + shared_bytes<float>(kLaneThreads) + shared_bytes<double>(3 * kLaneThreads);
  }
};

// The moments of a block's lanes to its slot.
template <int V>
__device__ __forceinline__ void settle_lanes(const Lanes<V>& lanes, const RunningMoments<V>& mine, int C,
                                             const PoolShared& shared, float* slot) {
  const int row = lanes.packs * V;
  __syncthreads();
  if (!lanes.idle()) {
#pragma unroll
    for (int i = 0; i < V; ++i) {
      const Moments m = mine.moments(i);
      shared.shift[lanes.lane * row + lanes.pack * V + i] = m.shift;
      shared.off[lanes.lane * row + lanes.pack * V + i] = m.off;
      shared.m2[lanes.lane * row + lanes.pack * V + i] = m.m2;
    }
    if (lanes.pack == 0) shared.count[lanes.lane] = static_cast<float>(mine.count);
  }
  __syncthreads();
  const int c = threadIdx.x;
  if (c >= lanes.channels) return;
  Moments total = {0, 0, 0, 0};
  for (int l = 0; l < lanes.lanes; ++l) {
    const int at = l * row + c;
    const Moments m = {shared.count[l], shared.shift[at], shared.off[at], shared.m2[at]};
    if (m.count > 0) total = total.count > 0 ? merged(total, m) : m;
  }
  store_moments(slot, C, lanes.c0 + c, total);
}

template <class S, int V>
__global__ void __launch_bounds__(kLaneThreads) pool_statistics_kernel(const NASFAST_GRID_CONSTANT PoolArgs args) {
  SharedArena arena;
  const PoolShared shared(arena);
  const PoolState& state = args.state[entry_of_block(args.state, args.states)];
  const int local = static_cast<int>(blockIdx.x) - state.block, run = local % state.runs, group = local / state.runs;
  const int C = state.x.C;
  const Lanes<V> lanes(group, run, state.runs, C, static_cast<int64_t>(args.N) * state.h * state.w);
  RunningMoments<V> average, maximum;
  if (!lanes.idle()) {
    for (int64_t p = lanes.begin + lanes.lane; p < lanes.end; p += lanes.lanes) {
      const PixelAt at = pixel_at(p, state.h, state.w);
      const Pooled<V> pooled =
          pool_at<S, V>(state.x, image_of<S>(state.x, at.n), at.y, at.x, state.stride, lanes.channel());
      float mean[V];
#pragma unroll
      for (int i = 0; i < V; ++i) mean[i] = pooled.average(i);
      average.take(mean);
      maximum.take(pooled.best);
    }
  }
  float* slot = state.partial + static_cast<int64_t>(run) * 2 * kMomentRows * C;
  settle_lanes(lanes, average, C, shared, slot);
  settle_lanes(lanes, maximum, C, shared, slot + kMomentRows * C);
  if (!last_block(state.counters + group, state.runs)) return;
  for (int kind = 0; kind < 2; ++kind)
    for (int c = 0; c < lanes.channels; c += kChunk)
      finish_statistics<kChunk, kLaneThreads>(
          state.partial + kind * kMomentRows * C, 2 * kMomentRows * C, state.runs, C, lanes.c0 + c,
          min(kChunk, lanes.channels - c), shared.sums, [&](int channel, float mean, float variance) {
            for (int k = state.first_norm; k < state.first_norm + state.norms; ++k) {
              if (args.norm[k].maximum != (kind == 1)) continue;
              gstore(args.norm[k].stats + channel, mean);
              gstore(args.norm[k].stats + C + channel, variance);
            }
          });
}

}  // namespace

template <class S>
void launch_pool_statistics(const PoolArgs& args, bool vector, int64_t blocks, cudaStream_t stream) {
  const LaunchConfig config{"pool_statistics", make_grid("pool_statistics", blocks), dim3(kLaneThreads),
                            PoolShared::bytes(), stream};
  if (vector)
    launch(config, pool_statistics_kernel<S, kVector<S>>, args);
  else
    launch(config, pool_statistics_kernel<S, 1>, args);
}

template void launch_pool_statistics<float>(const PoolArgs&, bool, int64_t, cudaStream_t);
template void launch_pool_statistics<bf16_t>(const PoolArgs&, bool, int64_t, cudaStream_t);
template void launch_pool_statistics<half_t>(const PoolArgs&, bool, int64_t, cudaStream_t);

}  // namespace nasfast::mixed_op
