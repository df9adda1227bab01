// Parameters on their way in and their gradients on their way out, images too, and running statistics.
//
//   pack      the part of a parameter that a unit uses, as kernels take it; channels past the last are zero
//   params    every element of a gradient is the sum of its parts, in their order; zero where no unit uses it
//   images    strided [N, C, H, W] to values of the groups, and back as readers see them
//   running   one block per normalisation: its uses one after the other, as in a loop over the groups
//   block     256 threads, one element each
//   bounds    of running name the blocks of a multiprocessor: of itself ptxas spills to make room for more of them
#include "read.cuh"

namespace nasfast::supernet {
namespace {

constexpr int kRunningThreads = 128;

template <class Task>
__device__ __forceinline__ int64_t element_of(const Task& task) {
  return (static_cast<int64_t>(blockIdx.x) - task.block) * kFlatThreads + threadIdx.x;
}

__global__ void __launch_bounds__(kFlatThreads) supernet_pack_kernel(Table<PackTask> table) {
  const PackTask task = task_of_block(table);
  const int64_t i = element_of(task);
  const int taps = task.kernel * task.kernel;
  int o, c, tap;
  int64_t all;
  if (task.kind == PackKind::kDense || task.kind == PackKind::kTransposed) {
    const bool swap = task.kind == PackKind::kTransposed;
    const int inner = swap ? task.in_ld : task.out_ld, outer = swap ? task.out_ld : task.in_ld;
    const int64_t line = quotient(i, inner);
    tap = static_cast<int>(quotient(line, outer));
    const int at = static_cast<int>(i - line * inner);
    const int row = static_cast<int>(line - static_cast<int64_t>(tap) * outer);
    o = swap ? row : at;
    c = swap ? at : row;
    all = static_cast<int64_t>(taps) * inner * outer;
  } else if (task.kind == PackKind::kDepthwise) {
    tap = static_cast<int>(quotient(i, task.out_ld));
    c = 0;
    o = static_cast<int>(i - static_cast<int64_t>(tap) * task.out_ld);
    all = static_cast<int64_t>(taps) * task.out_ld;
  } else {
    o = static_cast<int>(quotient(i, task.in_ld));
    c = static_cast<int>(i - static_cast<int64_t>(o) * task.in_ld);
    tap = 0;
    all = static_cast<int64_t>(task.c_out) * task.in_ld;
  }
  if (i >= all) return;
  float v = 0;
  if (o < task.c_out && c < task.c_in)
    v = gload(task.source + o * task.stride[0] + c * task.stride[1] + tap / task.kernel * task.stride[2] +
              tap % task.kernel * task.stride[3]);
  gstore(task.out + i, v);
}

// Where element [o][c][y][x] of a parameter stands in a part's packed gradient; below 0: not there.
__device__ __forceinline__ int64_t packed_at(const PartTask& part, const int (&size)[4], int o, int c, int y, int x) {
  if (o >= part.c_out) return -1;
  if (part.kind == PartKind::kVector) return o;
  if (part.kind == PartKind::kHead) return c < part.c_in ? static_cast<int64_t>(o) * part.in_ld + c : -1;
  const int edge = (size[2] - part.kernel) / 2;
  y -= edge;
  x -= edge;
  if (y < 0 || y >= part.kernel || x < 0 || x >= part.kernel || c >= part.c_in) return -1;
  const int tap = y * part.kernel + x;
  if (part.kind == PartKind::kDepthwise) return static_cast<int64_t>(tap) * part.out_ld + o;
  return (static_cast<int64_t>(tap) * part.in_ld + c) * part.out_ld + o;
}

__global__ void __launch_bounds__(kFlatThreads) supernet_params_kernel(Table<ParamTask> table, const PartTask* parts) {
  const ParamTask task = task_of_block(table);
  const int64_t i = element_of(task);
  if (i >= static_cast<int64_t>(task.size[0]) * task.size[1] * task.size[2] * task.size[3]) return;
  const int64_t line = quotient(i, task.size[0]);
  const int tap = static_cast<int>(quotient(line, task.size[1])), y = tap / task.size[3], x = tap - y * task.size[3];
  const int o = static_cast<int>(i - line * task.size[0]);  // neighbours in packed gradients
  const int c = static_cast<int>(line - static_cast<int64_t>(tap) * task.size[1]);
  float sum = 0;
  for (int k = 0; k < task.parts; ++k) {
    const PartTask part = load_struct(parts + task.first + k);
    const int64_t at = packed_at(part, task.size, o, c, y, x);
    for (int copy = 0; at >= 0 && copy < part.copies; ++copy) sum += gload(part.packed + copy * part.copy_stride + at);
  }
  gstore(task.grad + o * task.stride[0] + c * task.stride[1] + y * task.stride[2] + x * task.stride[3], sum);
}

template <bool IN>
__global__ void __launch_bounds__(kFlatThreads) supernet_images_kernel(Table<ImagesTask> table, ImagesArgs args) {
  const ImagesTask task = task_of_block(table);
  const int64_t i = element_of(task);
  const int area = args.H * args.W, width = IN ? args.ld : args.C;
  if (i >= static_cast<int64_t>(args.count) * area * width) return;
  const int64_t pixel = quotient(i, width), n = quotient(pixel, area);
  const int c = static_cast<int>(i - pixel * width), rest = static_cast<int>(pixel - n * area);
  const int y = rest / args.W, x = rest - y * args.W;
  float* image =
      args.images + (task.first + n) * args.stride[0] + c * args.stride[1] + y * args.stride[2] + x * args.stride[3];
  if constexpr (IN) {
    gstore(task.out + i, c < args.C ? gload(image) : 0.0f);
  } else {
    float v = 0;
    if (task.x.data) {
      v = gload(static_cast<const float*>(task.x.data) + pixel * args.ld + c);
      if (task.x.affine) v = gload(task.x.affine + c) * v + gload(task.x.affine + args.ld + c);
      v = activated(v, task.x.act);
    }
    gstore(image, v);
  }
}

__global__ void __launch_bounds__(kRunningThreads, 8)
    supernet_running_kernel(Table<RunningTask> table, const BatchStatistics* uses) {
  const RunningTask task = load_struct(table.tasks + blockIdx.x);
  const int64_t before = gload(task.batches);
  for (int k = 0; k < task.uses; ++k) {
    const BatchStatistics use = load_struct(uses + task.first + k);
    const double share = task.momentum < 0 ? reciprocal(static_cast<double>(before + k + 1)) : task.momentum;
    for (int c = threadIdx.x; c < use.channels; c += kRunningThreads) {
      float *mean = task.mean + c * task.mean_stride, *var = task.var + c * task.var_stride;
      const double new_mean = gload(use.stats + c), new_var = use.unbiased * gload(use.stats + use.channels + c);
      gstore(mean, static_cast<float>((1 - share) * static_cast<double>(gload(mean)) + share * new_mean));
      gstore(var, static_cast<float>((1 - share) * static_cast<double>(gload(var)) + share * new_var));
    }
  }
  __syncthreads();
  if (threadIdx.x == 0) gstore(task.batches, before + task.uses);
}

}  // namespace

void launch_pack(const Table<PackTask>& table, int64_t blocks, cudaStream_t stream) {
  const char* name = "supernet_pack";
  launch({name, make_grid(name, blocks), dim3(kFlatThreads), 0, stream}, supernet_pack_kernel, table);
}

void launch_params(const Table<ParamTask>& table, const PartTask* parts, int64_t blocks, cudaStream_t stream) {
  const char* name = "supernet_params";
  launch({name, make_grid(name, blocks), dim3(kFlatThreads), 0, stream}, supernet_params_kernel, table, parts);
}

void launch_images(const Table<ImagesTask>& table, const ImagesArgs& args, bool in, int64_t blocks,
                   cudaStream_t stream) {
  const char* name = in ? "supernet_images" : "supernet_output";
  launch({name, make_grid(name, blocks), dim3(kFlatThreads), 0, stream},
         in ? supernet_images_kernel<true> : supernet_images_kernel<false>, table, args);
}

void launch_running(const Table<RunningTask>& table, const BatchStatistics* uses, cudaStream_t stream) {
  const char* name = "supernet_running";
  launch({name, make_grid(name, table.count), dim3(kRunningThreads), 0, stream}, supernet_running_kernel, table, uses);
}

}  // namespace nasfast::supernet
