// Accesses outside of memory, misaligned, or of memory nobody wrote.
#include "faulty.h"

namespace faulty {
namespace {

template <bool Right>
__global__ void write_past_end(Buffers b) {
  const int i = blockIdx.x * kThreads + threadIdx.x;
  gstore(b.y + (Right ? i : i + 1), gload(b.x + i));
}
FAULTY_CASE(write_past_end, 0);

template <bool Right>
__global__ void read_before_start(Buffers b) {
  const int i = blockIdx.x * kThreads + threadIdx.x;
  gstore(b.y + i, gload(b.x + (Right && i == 0 ? i : i - 1)));
}
FAULTY_CASE(read_before_start, 0);

// The last vector reaches over the end.
template <bool Right>
__global__ void vector_past_end(Buffers b) {
  const int i = blockIdx.x * kThreads + threadIdx.x;
  const int at = Right ? i / 4 * 4 : i / 4 * 4 + 4;
  const Pack<float, 4> v = gload_vec<float, 4>(b.x + at);
  gstore(b.y + i, v[0]);
}
FAULTY_CASE(vector_past_end, 0);

template <bool Right>
__global__ void misaligned_vector(Buffers b) {
  const int i = blockIdx.x * kThreads + threadIdx.x;
  const int at = Right ? i / 4 * 4 : min(i, kElements - 4);
  const Pack<float, 4> v = gload_vec<float, 4>(b.x + at);
  gstore(b.y + i, v[0]);
}
FAULTY_CASE(misaligned_vector, 0);

template <bool Right>
__global__ void shared_past_end(Buffers b) {
  SharedArena arena;
  auto tile = arena.take<float>(kThreads);
  auto other = arena.take<float>(kThreads);
  const int t = threadIdx.x, i = blockIdx.x * kThreads + t;
  other[t] = 0.0f;
  tile[Right ? t : t + 1] = gload(b.x + i);
  __syncthreads();
  gstore(b.y + i, tile[kThreads - 1 - t] + other[t]);
}
FAULTY_CASE(shared_past_end, 2 * shared_bytes<float>(kThreads));

template <bool Right>
__global__ void shared_misaligned_vector(Buffers b) {
  SharedArena arena;
  auto tile = arena.take<float>(kThreads + 4);
  const int t = threadIdx.x, i = blockIdx.x * kThreads + t;
  for (int k = t; k < kThreads + 4; k += kThreads) tile[k] = 1.0f;
  __syncthreads();
  const Pack<float, 2> v = tile.load_vec<2>(Right ? t / 2 * 2 : t);
  gstore(b.y + i, v[0] + v[1]);
}
FAULTY_CASE(shared_misaligned_vector, shared_bytes<float>(kThreads + 4));

template <bool Right>
__global__ void shared_larger_than_launched(Buffers b) {
  SharedArena arena;
  auto tile = arena.take<float>(Right ? kThreads : kThreads + 1);
  tile[threadIdx.x] = 1.0f;
  gstore(b.y + blockIdx.x * kThreads + threadIdx.x, static_cast<float>(tile[threadIdx.x]));
}
FAULTY_CASE(shared_larger_than_launched, shared_bytes<float>(kThreads));

// Two arenas lie on top of each other.
template <bool Right>
__global__ void second_arena(Buffers b) {
  SharedArena arena, again;
  auto tile = arena.take<float>(kThreads);
  auto other = (Right ? arena : again).take<float>(kThreads / 2);
  const int t = threadIdx.x;
  tile[t] = 1.0f;
  if (t < kThreads / 2) other[t] = 2.0f;
  gstore(b.y + blockIdx.x * kThreads + t, static_cast<float>(tile[t]));
}
FAULTY_CASE(second_arena, 2 * shared_bytes<float>(kThreads));

template <bool Right>
__global__ void unwritten_global(Buffers b) {
  const int i = blockIdx.x * kThreads + threadIdx.x;
  if (Right || i != 77) gstore(b.work + i, gload(b.x + i));
  gstore(b.y + i, gload(b.work + i));
}
FAULTY_CASE(unwritten_global, 0);

template <bool Right>
__global__ void unwritten_shared(Buffers b) {
  SharedArena arena;
  auto tile = arena.take<float>(kThreads);
  const int t = threadIdx.x, i = blockIdx.x * kThreads + t;
  if (Right || t != 7) tile[t] = gload(b.x + i);
  __syncthreads();
  gstore(b.y + i, static_cast<float>(tile[kThreads - 1 - t]));
}
FAULTY_CASE(unwritten_shared, shared_bytes<float>(kThreads));

// Shared memory keeps nothing from block to block.
template <bool Right>
__global__ void shared_from_another_block(Buffers b) {
  SharedArena arena;
  auto tile = arena.take<float>(kThreads);
  const int t = threadIdx.x;
  if (Right || blockIdx.x == 0) tile[t] = 1.0f;
  gstore(b.y + blockIdx.x * kThreads + t, static_cast<float>(tile[t]));
}
FAULTY_CASE(shared_from_another_block, shared_bytes<float>(kThreads));

template <bool Right>
__global__ void write_to_input(Buffers b) {
  const int i = blockIdx.x * kThreads + threadIdx.x;
  const float v = gload(b.x + i);
  gstore(b.y + i, v);
  if (!Right) gstore(const_cast<float*>(b.x + i), v);
}
FAULTY_CASE(write_to_input, 0);

}  // namespace
}  // namespace faulty
