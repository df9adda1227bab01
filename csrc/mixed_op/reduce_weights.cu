// Weight gradients from the shares that blocks left (conv_backward.cu): out[i] = sum over shares, in their order, in
// float32, written in the parameter's own dtype. One launch for all parameters of a graph; a thread per element.
#include "../core/launch.h"
#include "image.cuh"
#include "kernels_cuda.h"

namespace nasfast::mixed_op {
namespace {

constexpr int kReduceThreads = 128;

__global__ void __launch_bounds__(kReduceThreads) reduce_weights_kernel(const NASFAST_GRID_CONSTANT ReduceArgs args) {
  const ReduceUnit& unit = args.unit[entry_of_block(args.unit, args.units)];
  const int i = (static_cast<int>(blockIdx.x) - unit.block) * kReduceThreads + threadIdx.x;
  if (i >= unit.count) return;
  float sum = 0;
#pragma unroll 8
  for (int s = 0; s < unit.splits; ++s) sum += gload(unit.partial + s * unit.stride + i);
  store_param(unit.out, i, sum);
}

}  // namespace

void launch_reduce_weights(const ReduceArgs& args, int64_t blocks, cudaStream_t stream) {
  const char* name = "reduce_weights";
  launch({name, make_grid(name, blocks), dim3(kReduceThreads), 0, stream}, reduce_weights_kernel, args);
}

}  // namespace nasfast::mixed_op
