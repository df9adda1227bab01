// Blocks that rely on each other, and sums that depend on the order of arrival.
#include "faulty.h"

namespace faulty {
namespace {

// Thread 0 of every block leaves a partial sum; one block adds them up.
template <bool Right>
__global__ void read_of_other_blocks(Buffers b) {
  const int t = threadIdx.x, i = blockIdx.x * kThreads + t;
  gstore(b.y + i, gload(b.x + i));
  if (t == 0) gstore(b.work + blockIdx.x, gload(b.x + i));
  const bool last = Right ? last_block(b.counter, gridDim.x) : blockIdx.x == gridDim.x - 1;
  if (!last || t != 0) return;
  float sum = 0;
  for (unsigned k = 0; k < gridDim.x; ++k) sum += gload(b.work + k);
  gstore(b.work + kElements - 1, sum);
}
FAULTY_CASE(read_of_other_blocks, 0);

// What a block writes after it has passed the counter comes too late.
template <bool Right>
__global__ void write_after_counter(Buffers b) {
  const int t = threadIdx.x, i = blockIdx.x * kThreads + t;
  gstore(b.y + i, gload(b.x + i));
  if (Right && t == 0) gstore(b.work + blockIdx.x, 1.0f);
  const bool last = last_block(b.counter, gridDim.x);
  if (!Right && t == 0) gstore(b.work + blockIdx.x, 1.0f);
  if (!last || t != 0) return;
  for (unsigned k = 0; k < gridDim.x; ++k) gstore(b.work + 64 + k, gload(b.work + k));
}
FAULTY_CASE(write_after_counter, 0);

// The blocks of one counter are not those of another: even and odd blocks count apart.
template <bool Right>
__global__ void wrong_counter(Buffers b) {
  const int t = threadIdx.x, i = blockIdx.x * kThreads + t;
  const int parity = blockIdx.x % 2;
  gstore(b.y + i, gload(b.x + i));
  if (t == 0) gstore(b.work + blockIdx.x, 1.0f);
  if (!last_block(b.counter + parity, gridDim.x / 2) || t != 0) return;
  for (unsigned k = 0; k < gridDim.x; ++k)
    if (!Right || static_cast<int>(k % 2) == parity) gstore(b.work + 64 + k, gload(b.work + k));
}
FAULTY_CASE(wrong_counter, 0);

template <bool Right>
__global__ void too_many_announced(Buffers b) {
  const int i = blockIdx.x * kThreads + threadIdx.x;
  gstore(b.y + i, gload(b.x + i));
  last_block(b.counter, Right ? gridDim.x : gridDim.x + 1);
}
FAULTY_CASE(too_many_announced, 0);

template <bool Right>
__global__ void write_by_two_blocks(Buffers b) {
  const int i = blockIdx.x * kThreads + threadIdx.x;
  gstore(b.y + i, gload(b.x + i));
  if (threadIdx.x == 0) gstore(b.work + (Right ? blockIdx.x : 0), 1.0f);
}
FAULTY_CASE(write_by_two_blocks, 0);

__global__ void fill(Buffers b) {
  const int i = blockIdx.x * kThreads + threadIdx.x;
  gstore(b.work + i, gload(b.x + i));
}

// A smoothing in place: neighbours may have been replaced already.
template <bool Right>
__global__ void in_place_with_neighbours(Buffers b) {
  const int i = blockIdx.x * kThreads + threadIdx.x;
  const float sum = gload(b.work + i) + gload(b.work + (i + 1) % kElements);
  __syncthreads();
  gstore((Right ? b.y : b.work) + i, sum);
}
const Case in_place_case(
    "in_place_with_neighbours",
    [](const Buffers& b) {
      start("fill", fill, b);
      start("in_place_with_neighbours", in_place_with_neighbours<false>, b);
    },
    [](const Buffers& b) {
      start("fill", fill, b);
      start("in_place_with_neighbours", in_place_with_neighbours<true>, b);
    });

template <bool Right>
__global__ void plain_read_of_atomic(Buffers b) {
  const int i = blockIdx.x * kThreads + threadIdx.x;
  gstore(b.y + i, gload(b.x + i));
  if (Right || threadIdx.x == 0) atomicAdd(b.counter + 1, 1u);
  if (!Right && threadIdx.x == 1) gstore(b.work + blockIdx.x, static_cast<float>(gload(b.counter + 1)));
}
FAULTY_CASE(plain_read_of_atomic, 0);

// Not an error of access: the sum depends on who comes first. Rejected by comparing seeds.
template <bool Right>
__global__ void order_dependence(Buffers b) {
  const int t = threadIdx.x, i = blockIdx.x * kThreads + t;
  if (i < 2) gstore(b.work + i, 0.0f);
  const float v = gload(b.x + i);
  float sum = v;
  for (int d = 16; d > 0; d /= 2) sum += __shfl_xor_sync(~0u, sum, d);
  gstore(b.y + i, sum);
}
template <bool Right>
__global__ void order_dependence_sum(Buffers b) {
  const int t = threadIdx.x, i = blockIdx.x * kThreads + t;
  if (!Right) {
    atomicAdd(b.work, gload(b.x + i));
  } else if (i == 0) {
    float sum = 0;
    for (int k = 0; k < kElements; ++k) sum += gload(b.x + k);
    gstore(b.work, sum);
  }
}
__global__ void copy_sum(Buffers b) {
  if (blockIdx.x == 0 && threadIdx.x == 0) gstore(b.y, gload(b.work));
}
template <bool Right>
void run_order_dependence(const Buffers& b) {
  start("order_dependence", order_dependence<Right>, b);
  start("order_dependence_sum", order_dependence_sum<Right>, b);
  start("copy_sum", copy_sum, b);
}
const Case order_case("order_dependence", run_order_dependence<false>, run_order_dependence<true>);

}  // namespace
}  // namespace faulty
