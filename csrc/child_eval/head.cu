// Classifiers of many children in one launch: logits = weights * mean over the image + bias.
//
//   block    128 threads, one image of one child
//   sums     float32: a thread adds up every k-th pixel of a pack of channels, the parts are added in their order; a
//            warp adds up a class, lane by lane and then in a tree
#include "../core/launch.h"
#include "../core/read.cuh"
#include "kernels_cuda.h"

namespace nasfast::child_eval {
namespace {

constexpr int kThreads = 128, kWarp = 32;

__host__ __device__ constexpr int parts_of(int packs) { return packs < kThreads ? kThreads / packs : 1; }

// Means of all channels into mean[0, ld).
template <class S>
__device__ __forceinline__ void image_means(const Source& x, const TaskShape& s, int n, const Shared<float>& sums) {
  constexpr int V = kVector<S>;
  const int ld = s.in_ld, packs = ld / V, parts = parts_of(packs), area = s.H * s.W;
  for (int i = threadIdx.x; i < packs * parts; i += kThreads) {
    const int pack = i % packs, part = i / packs;
    float sum[V] = {};
    for (int p = part; p < area; p += parts) {
      float v[V];
      read_pixel<S>(x, static_cast<int64_t>(n) * area + p, ld, pack * V, v);
#pragma unroll
      for (int k = 0; k < V; ++k) sum[k] += v[k];
    }
#pragma unroll
    for (int k = 0; k < V; ++k) sums[part * ld + pack * V + k] = sum[k];
  }
  __syncthreads();
  for (int c = threadIdx.x; c < ld; c += kThreads) {
    float sum = sums[c];
    for (int part = 1; part < parts; ++part) sum += sums[part * ld + c];
    sums[c] = sum / static_cast<float>(area);
  }
  __syncthreads();
}

template <class S>
__global__ void __launch_bounds__(kThreads) child_head_kernel(const NASFAST_TASK_PARAMETER HeadArgs args, int room) {
  SharedArena arena;
  const Shared<float> means = arena.take<float>(room);
  const HeadTask& task = args.task[entry_of_block(args.task, args.tasks)];
  const TaskShape& s = args.shape[task.shape];
  const int n = static_cast<int>(blockIdx.x) - task.block;
  image_means<S>(task.x, s, n, means);
  const int lane = static_cast<int>(threadIdx.x) % kWarp;
  for (int o = static_cast<int>(threadIdx.x) / kWarp; o < args.classes; o += kThreads / kWarp) {
    float sum = 0;
    for (int c = lane; c < s.in_ld; c += kWarp)
      sum += gload(task.weights + static_cast<int64_t>(o) * s.in_ld + c) * means[c];
#pragma unroll
    for (int step = kWarp / 2; step > 0; step /= 2) sum += __shfl_xor_sync(~0u, sum, step);
    if (lane == 0) gstore(task.out + static_cast<int64_t>(n) * args.classes + o, sum + gload(task.bias + o));
  }
}

}  // namespace

template <class S>
void launch_head(const HeadArgs& args, int64_t blocks, cudaStream_t stream) {
  constexpr int V = 16 / static_cast<int>(sizeof(S));
  const char* name = "child_head";
  int room = 0;
  for (int t = 0; t < args.tasks; ++t) {
    const int ld = args.shape[args.task[t].shape].in_ld, needed = ld * parts_of(ld / V);
    room = needed > room ? needed : room;
  }
  launch({name, make_grid(name, blocks), dim3(kThreads), shared_bytes<float>(room), stream}, child_head_kernel<S>, args,
         room);
}

template void launch_head<float>(const HeadArgs&, int64_t, cudaStream_t);
template void launch_head<bf16_t>(const HeadArgs&, int64_t, cudaStream_t);
template void launch_head<half_t>(const HeadArgs&, int64_t, cudaStream_t);

}  // namespace nasfast::child_eval
