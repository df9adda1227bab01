// PC-DARTS' channel shuffle: concatenate, transpose [groups][C/groups] to [C/groups][groups], in one pass; and back.
//
// A thread per element, neighbouring threads on neighbouring channels of what is written; what is read lies in the same
// pixel. Elements are moved as they are.
#include "../core/lanes.cuh"
#include "../core/launch.h"
#include "kernels_cuda.h"

namespace nasfast::mixed_op {
namespace {

constexpr int kShuffleThreads = 256;

// Element c of the parts in a row, of one pixel.
template <class T>
__device__ __forceinline__ T* part_at(const ShuffleArgs& args, int64_t pixel, int c) {
  return c < args.M ? static_cast<T*>(args.mixed) + pixel * args.mixed_ld + c
                    : static_cast<T*>(args.passed) + pixel * args.passed_ld + c - args.M;
}

template <class T, bool BACK>
__global__ void __launch_bounds__(kShuffleThreads) shuffle_kernel(const NASFAST_GRID_CONSTANT ShuffleArgs args) {
  const int C = args.M + args.P, per_group = C / args.groups;
  const int64_t i = static_cast<int64_t>(blockIdx.x) * kShuffleThreads + threadIdx.x;
  if (i >= args.pixels * C) return;
  const int64_t pixel = quotient(i, C);
  const int c = static_cast<int>(i - pixel * C);
  T* whole = static_cast<T*>(args.whole) + pixel * C;
  if constexpr (BACK)
    gstore(part_at<T>(args, pixel, c), gload(whole + c % per_group * args.groups + c / per_group));
  else
    gstore(whole + c, gload(part_at<T>(args, pixel, c % args.groups * per_group + c / args.groups)));
}

template <class T, bool BACK>
void launch_either(const ShuffleArgs& args, cudaStream_t stream) {
  const char* name = BACK ? "unshuffle" : "shuffle";
  const dim3 grid = grid_for(name, args.pixels * (args.M + args.P), kShuffleThreads);
  launch({name, grid, dim3(kShuffleThreads), 0, stream}, shuffle_kernel<T, BACK>, args);
}

}  // namespace

template <class T>
void launch_shuffle(const ShuffleArgs& args, cudaStream_t stream) {
  launch_either<T, false>(args, stream);
}
template <class T>
void launch_unshuffle(const ShuffleArgs& args, cudaStream_t stream) {
  launch_either<T, true>(args, stream);
}

template void launch_shuffle<half_t>(const ShuffleArgs&, cudaStream_t);
template void launch_shuffle<float>(const ShuffleArgs&, cudaStream_t);
template void launch_shuffle<double>(const ShuffleArgs&, cudaStream_t);
template void launch_unshuffle<half_t>(const ShuffleArgs&, cudaStream_t);
template void launch_unshuffle<float>(const ShuffleArgs&, cudaStream_t);
template void launch_unshuffle<double>(const ShuffleArgs&, cudaStream_t);

}  // namespace nasfast::mixed_op
