// Warp operations that not every lane reaches.
#include "faulty.h"

namespace faulty {
namespace {

template <bool Right>
__global__ void shuffle_with_exited_lanes(Buffers b) {
  const int t = threadIdx.x, i = blockIdx.x * kThreads + t;
  const float v = gload(b.x + i);
  gstore(b.y + i, v);
  if (!Right && t % 32 >= 16) return;
  const float sum = v + __shfl_xor_sync(~0u, v, 1);
  gstore(b.work + i, sum);
}
FAULTY_CASE(shuffle_with_exited_lanes, 0);

template <bool Right>
__global__ void divergent_shuffle(Buffers b) {
  const int t = threadIdx.x, i = blockIdx.x * kThreads + t;
  const float v = gload(b.x + i);
  float sum;
  if (Right || t % 2 == 0)
    sum = v + __shfl_xor_sync(~0u, v, 2);
  else
    sum = v + __shfl_xor_sync(~0u, v, 2);
  gstore(b.y + i, sum);
}
FAULTY_CASE(divergent_shuffle, 0);

template <bool Right>
__global__ void shuffle_against_barrier(Buffers b) {
  const int t = threadIdx.x, i = blockIdx.x * kThreads + t;
  float v = gload(b.x + i);
  if (Right || t != 3) v += __shfl_xor_sync(~0u, v, 1);
  __syncthreads();
  gstore(b.y + i, v);
}
FAULTY_CASE(shuffle_against_barrier, 0);

// Half a warp may shuffle alone, but not read from the other half.
template <bool Right>
__global__ void shuffle_out_of_mask(Buffers b) {
  const int t = threadIdx.x, i = blockIdx.x * kThreads + t;
  float v = gload(b.x + i);
  if (t % 32 < 16) v += __shfl_xor_sync(0xffffu, v, Right ? 8 : 16);
  gstore(b.y + i, v);
}
FAULTY_CASE(shuffle_out_of_mask, 0);

template <bool Right>
__global__ void caller_out_of_mask(Buffers b) {
  const int t = threadIdx.x, i = blockIdx.x * kThreads + t;
  const unsigned votes = __ballot_sync(Right ? ~0u : 0xffffu, t % 2);
  gstore(b.y + i, gload(b.x + i) + static_cast<float>(votes & 3u));
}
FAULTY_CASE(caller_out_of_mask, 0);

__global__ void lanes_beyond_block(Buffers b) {
  const int t = threadIdx.x;
  const float v = __shfl_xor_sync(~0u, gload(b.x + t), 1);
  for (int i = t; i < kElements; i += blockDim.x) gstore(b.y + i, v);
}
const Case lanes_beyond_block_case(
    "lanes_beyond_block", [](const Buffers& b) { start("lanes_beyond_block", lanes_beyond_block, b, 0, 1, 40); },
    [](const Buffers& b) { start("lanes_beyond_block", lanes_beyond_block, b, 0, 1, 64); });

}  // namespace
}  // namespace faulty
