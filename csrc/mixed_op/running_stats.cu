// BatchNorm's running statistics from a batch's, as torch moves them: running = (1 - momentum)*running +
// momentum*batch, the variance unbiased, the count of batches + 1. All BatchNorms of a cell in one launch: a block
// each, in float32.
#include "../core/launch.h"
#include "image.cuh"
#include "kernels_cuda.h"

namespace nasfast::mixed_op {
namespace {

constexpr int kRunningThreads = 64;

__global__ void __launch_bounds__(kRunningThreads) running_stats_kernel(const NASFAST_GRID_CONSTANT RunningArgs args) {
  const RunningUnit& unit = args.unit[blockIdx.x];
  const float* batch = args.stats + static_cast<int64_t>(blockIdx.x) * 2 * args.C;
  for (int c = threadIdx.x; c < args.C; c += kRunningThreads) {
    const float keep = 1.0f - args.momentum;
    store_param(unit.mean, c, keep * load_param(unit.mean, c) + args.momentum * gload(batch + c));
    store_param(unit.variance, c, keep * load_param(unit.variance, c) + args.unbiased * gload(batch + args.C + c));
  }
  if (threadIdx.x == 0) gstore(unit.batches, gload(unit.batches) + 1);
}

}  // namespace

void launch_running_stats(const RunningArgs& args, cudaStream_t stream) {
  const char* name = "running_stats";
  launch({name, make_grid(name, args.units), dim3(kRunningThreads), 0, stream}, running_stats_kernel, args);
}

}  // namespace nasfast::mixed_op
