// Depthwise convolutions, and normalisations or activations that stand alone, of many nodes in one launch.
//
//   block    128 threads: a run of output pixels, counted through all images, x at most 64 channels; a thread keeps to
//            one 16-byte pack of channels and takes every k-th pixel of the run (mixed_op/lanes.cuh)
//   sums     float32, tap by tap; statistics of a thread's pixels around the first of them, joined in the order of
//            threads and runs (moments.cuh)
//
// A thread takes a few pixels at a time, so that a weight is read once for all of them; an input that several outputs
// share is read again from the first-level cache.
#include "../core/lanes.cuh"
#include "../core/launch.h"
#include "../core/read.cuh"
#include "kernels_cuda.h"
#include "moments.cuh"

namespace nasfast::child_eval {
namespace {

static_assert(kLanesChannels == kLaneChannels);

// Pixels that a thread works on at a time: a weight is read once for all of them.
template <class S>
constexpr int kPixels = sizeof(S) == 4 ? 4 : 2;

template <class S>
struct LaneShared {
  static constexpr int kVec = kVector<S>;
  Shared<float> moments;  // [threads][3][kVec]
  Shared<double> sums;

  __device__ __forceinline__ LaneShared(SharedArena& arena, bool statistics)
      : moments(arena.take<float>(statistics ? 3 * kVec * kLaneThreads : 0)),
        sums(arena.take<double>(statistics ? 3 * kLaneThreads : 0)) {}
  static size_t bytes(bool statistics) {
    return statistics ? shared_bytes<float>(3 * kVec * kLaneThreads) + shared_bytes<double>(3 * kLaneThreads) : 0;
  }
};

// The values that one thread saw, by channel: how far from the first.
template <int V>
struct LaneMoments {
  float first[V] = {}, sum[V] = {}, square[V] = {};
  bool any = false;

  __device__ __forceinline__ void take(const float (&v)[V]) {
#pragma unroll
    for (int i = 0; i < V; ++i) {
      if (!any) first[i] = v[i];
      const float t = v[i] - first[i];
      sum[i] += t;
      square[i] += t * t;
    }
    any = true;
  }
};

// Where the window of an output pixel begins in the input, which may be outside of it.
struct Window {
  int64_t image;  // first pixel of the image
  int y, x;
};

__device__ __forceinline__ Window window_of(const TaskShape& s, int64_t pixel) {
  const PixelAt at = pixel_at(pixel, s.h, s.w);
  return {static_cast<int64_t>(at.n) * s.H * s.W, at.y * s.stride - s.pad, at.x * s.stride - s.pad};
}

// out[j] += sum over the taps of the window of pixel j.
template <class S, int V, int R>
__device__ __forceinline__ void filter(const ConvTask& task, const TaskShape& s, const Window (&window)[R], int c,
                                       float (&out)[R][V]) {
  const float* weights = static_cast<const float*>(task.weights) + c;
  for (int ky = 0; ky < s.kernel; ++ky) {
    for (int kx = 0; kx < s.kernel; ++kx, weights += s.in_ld) {
      float w[V];
#pragma unroll
      for (int k = 0; k < V; k += 4) {
        const Pack<float, 4> four = gload_vec<float, 4>(weights + k);
#pragma unroll
        for (int i = 0; i < 4; ++i) w[k + i] = four[i];
      }
#pragma unroll
      for (int j = 0; j < R; ++j) {
        const int y = window[j].y + ky * s.dilation, x = window[j].x + kx * s.dilation;
        if (y < 0 || y >= s.H || x < 0 || x >= s.W) continue;
        float v[V];
        read_pixel<S>(task.x, window[j].image + static_cast<int64_t>(y) * s.W + x, s.in_ld, c, v);
#pragma unroll
        for (int i = 0; i < V; ++i) out[j][i] += w[i] * v[i];
      }
    }
  }
}

// Joins the moments of the threads that share a channel, and stores them in the run's slot.
template <class S, int V>
__device__ __forceinline__ void store_run(const ConvTask& task, const TaskShape& s, const Lanes<V>& lanes, int run,
                                          const LaneMoments<V>& own, const Shared<float>& shared) {
  const int mine = static_cast<int>(threadIdx.x) * 3 * V;
#pragma unroll
  for (int i = 0; i < V; ++i) {
    shared[mine + i] = own.first[i];
    shared[mine + V + i] = own.sum[i];
    shared[mine + 2 * V + i] = own.square[i];
  }
  __syncthreads();
  const int channel = static_cast<int>(threadIdx.x);
  if (channel >= lanes.channels) return;
  const int64_t pixels = lanes.end - lanes.begin;
  Moments all{};
  for (int lane = 0; lane < lanes.lanes && lane < pixels; ++lane) {
    const int at = (lane * lanes.packs + channel / V) * 3 * V + channel % V;
    const float count = static_cast<float>((pixels - lane + lanes.lanes - 1) / lanes.lanes);
    const float sum = shared[at + V], mean = sum / count;
    const Moments m{count, shared[at], mean, shared[at + 2 * V] - sum * mean};
    all = lane == 0 ? m : merged(all, m);
  }
  float* slot = task.statistics.partial + static_cast<int64_t>(run) * kMomentRows * s.out_ld;
  store_moments(slot, s.out_ld, lanes.c0 + channel, all);
}

template <class S>
__global__ void __launch_bounds__(kLaneThreads, 4)
    child_depthwise_kernel(const NASFAST_TASK_PARAMETER ConvArgs args, bool statistics) {
  constexpr int V = kVector<S>, R = kPixels<S>;
  SharedArena arena;
  const LaneShared<S> shared(arena, statistics);
  const ConvTask& task = args.task[entry_of_block(args.task, args.tasks)];
  const TaskShape& s = args.shape[task.shape];
  const int groups = lane_groups(s.out_ld), local = static_cast<int>(blockIdx.x) - task.block;
  const int run = local / groups, group = local - run * groups;
  const Lanes<V> lanes(group, run, s.runs, s.out_ld, static_cast<int64_t>(args.N) * s.h * s.w);
  LaneMoments<V> moments;
  if (!lanes.idle()) {
    const int c = lanes.channel();
    for (int64_t first = lanes.begin + lanes.lane; first < lanes.end; first += R * lanes.lanes) {
      float v[R][V] = {};
      if (task.weights) {
        Window window[R];
#pragma unroll
        for (int j = 0; j < R; ++j) window[j] = window_of(s, min(first + j * lanes.lanes, lanes.end - 1));
        filter<S>(task, s, window, c, v);
      }
#pragma unroll
      for (int j = 0; j < R; ++j) {
        const int64_t pixel = first + j * lanes.lanes;
        if (pixel >= lanes.end) break;
        if (!task.weights) read_pixel<S>(task.x, pixel, s.in_ld, c, v[j]);
        finish(task.after, s.out_ld, task.act, c, v[j]);
        if (task.out) gstore_vec(static_cast<S*>(task.out) + pixel * s.out_ld + c, pack<S>(v[j]));
        if (!statistics) continue;
#pragma unroll
        for (int i = 0; i < V; ++i) v[j][i] = rounded<S>(v[j][i]);
        moments.take(v[j]);
      }
    }
  }
  if (!statistics || !task.statistics.counters) return;
  store_run<S>(task, s, lanes, run, moments, shared.moments);
  finish_norm<kLaneChannels, kLaneThreads>(task.statistics, s, group, shared.sums);
}

}  // namespace

template <class S>
void launch_depthwise(const ConvArgs& args, bool statistics, int64_t blocks, cudaStream_t stream) {
  const char* name = "child_depthwise";
  launch({name, make_grid(name, blocks), dim3(kLaneThreads), LaneShared<S>::bytes(statistics), stream},
         child_depthwise_kernel<S>, args, statistics);
}

template void launch_depthwise<float>(const ConvArgs&, bool, int64_t, cudaStream_t);
template void launch_depthwise<bf16_t>(const ConvArgs&, bool, int64_t, cudaStream_t);
template void launch_depthwise<half_t>(const ConvArgs&, bool, int64_t, cudaStream_t);

}  // namespace nasfast::child_eval
