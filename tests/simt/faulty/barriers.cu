// Barriers that are missing or that not every thread reaches.
#include "faulty.h"

namespace faulty {
namespace {

template <bool Right>
__global__ void missing_barrier(Buffers b) {
  SharedArena arena;
  auto tile = arena.take<float>(kThreads);
  const int t = threadIdx.x, i = blockIdx.x * kThreads + t;
  tile[t] = gload(b.x + i);
  if (Right) __syncthreads();
  gstore(b.y + i, static_cast<float>(tile[kThreads - 1 - t]));
}
FAULTY_CASE(missing_barrier, shared_bytes<float>(kThreads));

// The second round overwrites what slower threads still read of the first.
template <bool Right>
__global__ void missing_barrier_in_loop(Buffers b) {
  SharedArena arena;
  auto tile = arena.take<float>(kThreads);
  const int t = threadIdx.x, i = blockIdx.x * kThreads + t;
  float sum = 0;
  for (int round = 0; round < 3; ++round) {
    tile[t] = gload(b.x + i) + round;
    __syncthreads();
    sum += tile[kThreads - 1 - t];
    if (Right) __syncthreads();
  }
  gstore(b.y + i, sum);
}
FAULTY_CASE(missing_barrier_in_loop, shared_bytes<float>(kThreads));

template <bool Right>
__global__ void missing_barrier_global(Buffers b) {
  const int t = threadIdx.x, first = blockIdx.x * kThreads;
  gstore(b.work + first + t, gload(b.x + first + t));
  if (Right) __syncthreads();
  gstore(b.y + first + t, gload(b.work + first + kThreads - 1 - t));
}
FAULTY_CASE(missing_barrier_global, 0);

template <bool Right>
__global__ void missing_syncwarp(Buffers b) {
  SharedArena arena;
  auto tile = arena.take<float>(kThreads);
  const int t = threadIdx.x, i = blockIdx.x * kThreads + t;
  tile[t] = gload(b.x + i);
  if (Right) __syncwarp();
  gstore(b.y + i, static_cast<float>(tile[t ^ 1]));
}
FAULTY_CASE(missing_syncwarp, shared_bytes<float>(kThreads));

// A warp barrier does not order what another warp does.
template <bool Right>
__global__ void syncwarp_across_warps(Buffers b) {
  SharedArena arena;
  auto tile = arena.take<float>(kThreads);
  const int t = threadIdx.x, i = blockIdx.x * kThreads + t;
  tile[t] = gload(b.x + i);
  if (Right)
    __syncthreads();
  else
    __syncwarp();
  gstore(b.y + i, static_cast<float>(tile[t ^ 32]));
}
FAULTY_CASE(syncwarp_across_warps, shared_bytes<float>(kThreads));

template <bool Right>
__global__ void divergent_barrier(Buffers b) {
  const int t = threadIdx.x, i = blockIdx.x * kThreads + t;
  if (Right || t < 32)
    __syncthreads();
  else
    __syncthreads();
  gstore(b.y + i, gload(b.x + i));
}
FAULTY_CASE(divergent_barrier, 0);

template <bool Right>
__global__ void barrier_after_exit(Buffers b) {
  const int t = threadIdx.x, i = blockIdx.x * kThreads + t;
  if (!Right && t == 5) return;
  __syncthreads();
  gstore(b.y + i, gload(b.x + i));
}
FAULTY_CASE(barrier_after_exit, 0);

template <bool Right>
__global__ void uneven_barrier_count(Buffers b) {
  const int t = threadIdx.x, i = blockIdx.x * kThreads + t;
  for (int round = 0; round < (Right ? 2 : 1 + t % 2); ++round) __syncthreads();
  gstore(b.y + i, gload(b.x + i));
}
FAULTY_CASE(uneven_barrier_count, 0);

}  // namespace
}  // namespace faulty
