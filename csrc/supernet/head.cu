// Classifiers of many groups in one launch: logits = weights * mean over the image + bias, and the gradient of what
// they read.
//
//   block    128 threads, one image of one group
//   sums     float32: a thread adds up every k-th pixel of a pack of channels, the parts are added in their order; a
//            warp adds up a class, lane by lane and then in a tree; the gradient class after class
#include "read.cuh"

namespace nasfast::supernet {
namespace {

constexpr int kThreads = 128, kWarp = 32;

__host__ __device__ constexpr int parts_of(int packs) { return packs < kThreads ? kThreads / packs : 1; }

__device__ __forceinline__ void image_means(const HeadTask& task, int n, const Shared<float>& sums) {
  const int packs = task.ld / kPack, parts = parts_of(packs);
  for (int i = threadIdx.x; i < packs * parts; i += kThreads) {
    const int c = i % packs * kPack, part = i / packs;
    float sum[kPack] = {};
    for (int p = part; p < task.pixels; p += parts) {
      float v[kPack];
      read_pixel<float>(task.x, static_cast<int64_t>(n) * task.pixels + p, task.ld, c, v);
#pragma unroll
      for (int k = 0; k < kPack; ++k) sum[k] += v[k];
    }
#pragma unroll
    for (int k = 0; k < kPack; ++k) sums[part * task.ld + c + k] = sum[k];
  }
  __syncthreads();
  for (int c = threadIdx.x; c < task.ld; c += kThreads) {
    float sum = sums[c];
    for (int part = 1; part < parts; ++part) sum += sums[part * task.ld + c];
    sum /= static_cast<float>(task.pixels);
    sums[c] = sum;
    gstore(task.pooled + static_cast<int64_t>(n) * task.ld + c, sum);
  }
  __syncthreads();
}

__global__ void __launch_bounds__(kThreads) supernet_head_kernel(Table<HeadTask> table, int room) {
  SharedArena arena;
  const Shared<float> means = arena.take<float>(room);
  const HeadTask task = task_of_block(table);
  const int n = static_cast<int>(blockIdx.x) - task.block, lane = static_cast<int>(threadIdx.x) % kWarp;
  image_means(task, n, means);
  for (int o = static_cast<int>(threadIdx.x) / kWarp; o < task.classes; o += kThreads / kWarp) {
    float sum = 0;
    for (int c = lane; c < task.ld; c += kWarp)
      sum += gload(task.weights + static_cast<int64_t>(o) * task.ld + c) * means[c];
#pragma unroll
    for (int step = kWarp / 2; step > 0; step /= 2) sum += __shfl_xor_sync(~0u, sum, step);
    if (lane == 0)
      gstore(task.out + static_cast<int64_t>(n) * task.classes + o, sum + gload(task.bias + o * task.bias_stride));
  }
}

__global__ void __launch_bounds__(kThreads) supernet_head_grad_kernel(Table<HeadTask> table, int room) {
  SharedArena arena;
  const Shared<float> shares = arena.take<float>(room);
  const HeadTask task = task_of_block(table);
  const int n = static_cast<int>(blockIdx.x) - task.block, packs = task.ld / kPack;
  for (int c = threadIdx.x; c < task.ld; c += kThreads) {
    float sum = 0;
    for (int o = 0; o < task.classes; ++o)
      sum += gload(task.g + static_cast<int64_t>(n) * task.classes + o) *
             gload(task.weights + static_cast<int64_t>(o) * task.ld + c);
    shares[c] = sum / static_cast<float>(task.pixels);
  }
  __syncthreads();
  for (int i = threadIdx.x; i < task.pixels * packs; i += kThreads) {
    const int p = i / packs, c = i % packs * kPack;
    float* out = task.out + (static_cast<int64_t>(n) * task.pixels + p) * task.ld + c;
    float v[kPack] = {};
    if (task.add) load_pack(out, v);
#pragma unroll
    for (int k = 0; k < kPack; ++k) v[k] += shares[c + k];
    store_pack(out, v);
  }
}

}  // namespace

void launch_head(const Table<HeadTask>& table, int most_channels, bool gradient, int64_t blocks, cudaStream_t stream) {
  const char* name = gradient ? "supernet_head_grad" : "supernet_head";
  const int room = most_channels + kThreads * kPack;  // of every width up to the largest: parts * ld
  launch({name, make_grid(name, blocks), dim3(kThreads), shared_bytes<float>(room), stream},
         gradient ? supernet_head_grad_kernel : supernet_head_kernel, table, room);
}

}  // namespace nasfast::supernet
