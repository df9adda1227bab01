// Right kernels that the tests of the harness itself measure.
#include "checks.h"

#include "core/launch.h"
#include "core/mma.h"

namespace faulty {
namespace {

using namespace nasfast;

// One warp a tile: d[16][8] = a[16][K] * b[K][8], a and b row-major, through shared memory.
template <class T>
__global__ void product(const T* a, const T* b, float* d, int depth) {
  SharedArena arena;
  auto left = arena.take<T>(kMmaM * kMmaK);
  auto right = arena.take<T>(kMmaN * kMmaK);  // transposed, so that pairs along k lie side by side
  const int lane = threadIdx.x, group = lane / 4, member = lane % 4;
  float sum[4] = {};
  for (int k0 = 0; k0 < depth; k0 += kMmaK) {
    for (int i = lane; i < kMmaM * kMmaK; i += 32)
      left[i] = gload(a + static_cast<int64_t>(i / kMmaK) * depth + k0 + i % kMmaK);
    for (int i = lane; i < kMmaN * kMmaK; i += 32)
      right[i] = gload(b + static_cast<int64_t>(k0 + i % kMmaK) * kMmaN + i / kMmaK);
    __syncthreads();
    uint32_t fa[4], fb[2];
    for (int i = 0; i < 4; ++i)
      fa[i] = pair_bits(left.template load_vec<2>((group + i % 2 * 8) * kMmaK + 2 * member + i / 2 * 8));
    for (int i = 0; i < 2; ++i) fb[i] = pair_bits(right.template load_vec<2>(group * kMmaK + 2 * member + i * 8));
    mma_16x8x16<T>(sum, fa, fb);
    __syncthreads();
  }
  for (int i = 0; i < 4; ++i) gstore(d + (group + i / 2 * 8) * kMmaN + 2 * member + i % 2, sum[i]);
}

// Every thread reads x[0 .. reads) and writes its own element of y, in vectors where asked.
__global__ void count(const float* x, float* y, int reads) {
  const int i = blockIdx.x * blockDim.x + threadIdx.x;
  float sum = 0;
  for (int k = 0; k < reads; ++k) sum += gload(x + k);
  gstore(y + i, sum);
}
__global__ void count_vectors(const float* x, float* y) {
  const int i = (blockIdx.x * blockDim.x + threadIdx.x) * 4;
  gstore_vec(y + i, gload_vec<float, 4>(x + i));
}

template <class T>
__global__ void convert(const float* x, T* y, float* back, int count) {
  const int i = blockIdx.x * blockDim.x + threadIdx.x;
  if (i >= count) return;
  const T v = from_float<T>(gload(x + i));
  gstore(y + i, v);
  gstore(back + i, to_float(v));
}

// All warp operations, their results in 8 rows of 64.
__global__ void warp_operations(const int* x, int* y) {
  const int t = threadIdx.x, v = gload(x + t);
  const auto put = [&](int row, int value) { gstore(y + row * 64 + t, value); };
  put(0, __shfl_sync(~0u, v, t + 3));
  put(1, __shfl_xor_sync(~0u, v, 5));
  put(2, __shfl_down_sync(~0u, v, 4));
  put(3, __shfl_up_sync(~0u, v, 4));
  put(4, __shfl_down_sync(~0u, v, 3, 8));
  put(5, static_cast<int>(__ballot_sync(~0u, v > 50)));
  put(6, __any_sync(~0u, v > 90) * 2 + __all_sync(~0u, v >= 0));
  put(7, t % 32 < 16 ? __shfl_xor_sync(0xffffu, v, 1) : -1);
}

// The order in which threads reach a counter.
__global__ void arrival(unsigned* counter, int* y) {
  const int i = blockIdx.x * blockDim.x + threadIdx.x;
  gstore(y + i, static_cast<int>(atomicAdd(counter, 1u)));
}

}  // namespace

template <class T>
void launch_product(const T* a, const T* b, float* d, int depth) {
  const size_t shared = shared_bytes<T>(kMmaM * kMmaK) + shared_bytes<T>(kMmaN * kMmaK);
  launch({"product", dim3(1), dim3(32), shared, nullptr}, product<T>, a, b, d, depth);
}
template void launch_product(const bf16_t*, const bf16_t*, float*, int);
template void launch_product(const half_t*, const half_t*, float*, int);

void launch_count(const float* x, float* y, int blocks, int threads, int reads) {
  launch({"count", dim3(blocks), dim3(threads), 0, nullptr}, count, x, y, reads);
}
void launch_count_vectors(const float* x, float* y, int blocks, int threads) {
  launch({"count_vectors", dim3(blocks), dim3(threads), 0, nullptr}, count_vectors, x, y);
}
template <class T>
void launch_convert(const float* x, T* y, float* back, int count) {
  launch({"convert", grid_for("convert", count, 128), dim3(128), 0, nullptr}, convert<T>, x, y, back, count);
}
template void launch_convert(const float*, bf16_t*, float*, int);
template void launch_convert(const float*, half_t*, float*, int);

void launch_warp_operations(const int* x, int* y) {
  launch({"warp_operations", dim3(1), dim3(64), 0, nullptr}, warp_operations, x, y);
}
void launch_arrival(unsigned* counter, int* y, int blocks, int threads) {
  launch({"arrival", dim3(blocks), dim3(threads), 0, nullptr}, arrival, counter, y);
}

}  // namespace faulty
