// A node: out = sum over edges and candidates of w * BatchNorm(y), in one pass that writes the node once.
//
//   BatchNorm and architecture weight become one multiply-add per term: scale = w*gamma*rstd, shift = w*(beta - mean*
//   scale). Candidates that read the same image (two pools of one state, on two edges) share a row: their scales add
//   up. Pools and skips are computed from the state; the window is read once for both pools and the skip. block    256
//   threads, each V neighbouring channels of a pixel, up to 64 channels a block; scales are worked out by
//            the block at first and kept in shared memory
//   sums     float32, in the order of the terms
#include "../core/lanes.cuh"
#include "../core/launch.h"
#include "kernels_cuda.h"
#include "pool.cuh"

namespace nasfast::mixed_op {
namespace {

constexpr int kNodeThreads = 256;

struct NodeShared {
  Shared<float> scale, shift, row;  // [terms][64], [terms][64], [rows + 1][64]
  __device__ __forceinline__ NodeShared(SharedArena& arena, const NodeArgs& args)
      : scale(arena.take<float>(max(args.terms, 1) * kLaneChannels)),
        shift(arena.take<float>(max(args.terms, 1) * kLaneChannels)),
        row(arena.take<float>((args.rows + 1) * kLaneChannels)) {}
  static size_t bytes(const NodeArgs& args) {
    return 2 * shared_bytes<float>((args.terms > 0 ? args.terms : 1) * kLaneChannels) +
           shared_bytes<float>((args.rows + 1) * kLaneChannels);
  }
};

__device__ __forceinline__ void prepare_rows(const NodeArgs& args, int c0, int channels, const NodeShared& shared) {
  for (int i = threadIdx.x; i < args.terms * kLaneChannels; i += kNodeThreads) {
    const int c = i % kLaneChannels;
    const NodeTerm& term = args.term[i / kLaneChannels];
    float scale = 0, shift = 0;
    if (c < channels) {
      const float w = term.weight ? gload(term.weight) : 1.0f;
      scale = w;
      if (term.norm.stats) {
        const NormAt norm = norm_at(term.norm, args.out.C, c0 + c, args.eps);
        scale = w * norm.scale();
        shift = w * norm.shift();
      }
    }
    shared.scale[i] = scale;
    shared.shift[i] = shift;
  }
  __syncthreads();
  for (int i = threadIdx.x; i < (args.rows + 1) * kLaneChannels; i += kNodeThreads) {
    const int row = i / kLaneChannels, c = i % kLaneChannels;
    const bool total = row == args.rows;  // the last row: all shifts
    float sum = 0;
    for (int t = total ? 0 : args.first_term[row]; t < (total ? args.terms : args.first_term[row + 1]); ++t)
      sum += total ? shared.shift[t * kLaneChannels + c] : shared.scale[t * kLaneChannels + c];
    shared.row[i] = sum;
  }
  __syncthreads();
}

template <int V>
__device__ __forceinline__ void add_row(const Shared<float>& row, int index, int c, const float (&v)[V],
                                        float (&sum)[V]) {
#pragma unroll
  for (int i = 0; i < V; ++i) sum[i] += row[index * kLaneChannels + c + i] * v[i];
}

template <class S, int V>
__global__ void __launch_bounds__(kNodeThreads, 2) node_sum_kernel(const NASFAST_GRID_CONSTANT NodeArgs args) {
  SharedArena arena;
  const NodeShared shared(arena, args);
  const int C = args.out.C, c0 = blockIdx.y * kLaneChannels, channels = min(kLaneChannels, C - c0);
  prepare_rows(args, c0, channels, shared);
  const int packs = (channels + V - 1) / V;
  const int64_t items = static_cast<int64_t>(args.N) * args.out.H * args.out.W * packs;
  for (int64_t i = static_cast<int64_t>(blockIdx.x) * kNodeThreads + threadIdx.x; i < items;
       i += static_cast<int64_t>(gridDim.x) * kNodeThreads) {
    const int64_t pixel = quotient(i, packs);
    const int c = static_cast<int>(i - pixel * packs) * V;
    float sum[V];
#pragma unroll
    for (int k = 0; k < V; ++k) sum[k] = shared.row[args.rows * kLaneChannels + c + k];
    S* out = static_cast<S*>(args.out.data) + pixel * args.out.ld;
    if (args.add) {
      float v[V];
      load_channels(out, c0 + c, C, v);
#pragma unroll
      for (int k = 0; k < V; ++k) sum[k] += v[k];
    }
#pragma unroll 4
    for (int row = 0; row < args.images; ++row) {
      float v[V];
      load_channels(static_cast<const S*>(args.image[row].data) + pixel * args.image[row].ld, c0 + c, C, v);
      add_row(shared.row, row, c, v, sum);
    }
    for (int k = 0; k < args.states; ++k) {
      const NodeState& state = args.state[k];
      const PixelAt at = pixel_at(pixel, args.out.H, args.out.W);
      const S* image = image_of<S>(state.x, at.n);
      if (state.average < 0 && state.maximum < 0) {
        float v[V];
        load_channels(image + (at.y * state.x.W + at.x) * state.x.ld, c0 + c, C, v);
        add_row(shared.row, state.skip, c, v, sum);
        continue;
      }
      const Pooled<V> pooled = pool_at<S, V>(state.x, image, at.y, at.x, state.stride, c0 + c);
      if (state.average >= 0) {
        float v[V];
#pragma unroll
        for (int j = 0; j < V; ++j) v[j] = pooled.average(j);
        add_row(shared.row, state.average, c, v, sum);
      }
      if (state.maximum >= 0) add_row(shared.row, state.maximum, c, pooled.best, sum);
      if (state.skip >= 0) add_row(shared.row, state.skip, c, pooled.centre, sum);
    }
    if constexpr (V > 1)
      gstore_vec(out + c0 + c, pack<S>(sum));
    else
      gstore(out + c0 + c, from_float<S>(sum[0]));
  }
}

}  // namespace

template <class S>
void launch_node_sum(const NodeArgs& args, bool vector, int64_t max_blocks, cudaStream_t stream) {
  const int V = vector ? kVector<S> : 1, C = args.out.C;
  const int64_t items = static_cast<int64_t>(args.N) * args.out.H * args.out.W * ceil_div(min(C, kLaneChannels), V);
  const int64_t blocks = min(ceil_div(items, kNodeThreads), max_blocks);
  const LaunchConfig config{"node_sum", make_grid("node_sum", blocks, lane_groups(C)), dim3(kNodeThreads),
                            NodeShared::bytes(args), stream};
  if (vector)
    launch(config, node_sum_kernel<S, kVector<S>>, args);
  else
    launch(config, node_sum_kernel<S, 1>, args);
}

template void launch_node_sum<float>(const NodeArgs&, bool, int64_t, cudaStream_t);
template void launch_node_sum<bf16_t>(const NodeArgs&, bool, int64_t, cudaStream_t);
template void launch_node_sum<half_t>(const NodeArgs&, bool, int64_t, cudaStream_t);

}  // namespace nasfast::mixed_op
