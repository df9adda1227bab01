// What evaluation starts from: images as a value, and weights as the kernels read them, with BatchNorm's running
// statistics made scale and shift (in float64). All tensors of a network in one launch, or a few.
//
//   block    256 threads; 2,048 elements of one tensor, or of one value
#include "../core/launch.h"
#include "../core/read.cuh"
#include "kernels_cuda.h"

namespace nasfast::child_eval {
namespace {

template <class S>
__global__ void __launch_bounds__(kPackThreads) child_images_kernel(const ImagesArgs args) {
  constexpr int V = kVector<S>;
  const int packs = args.ld / V;
  const int64_t items = static_cast<int64_t>(args.N) * args.H * args.W * packs;
  const int64_t item = static_cast<int64_t>(blockIdx.x) * kPackThreads + threadIdx.x;
  if (item >= items) return;
  const int64_t pixel = item / packs, line = pixel / args.W, n = line / args.H;
  const int c0 = static_cast<int>(item - pixel * packs) * V;
  const S* from = static_cast<const S*>(args.images) + n * args.stride[0] + (line - n * args.H) * args.stride[2] +
                  (pixel - line * args.W) * args.stride[3];
  float v[V];
#pragma unroll
  for (int i = 0; i < V; ++i) v[i] = c0 + i < args.C ? to_float(gload(from + (c0 + i) * args.stride[1])) : 0.0f;
  gstore_vec(static_cast<S*>(args.out) + pixel * args.ld + c0, pack<S>(v));
}

template <class S>
__device__ __forceinline__ void pack_dense(const PackTask& t, int64_t i) {
  const int64_t K = static_cast<int64_t>(t.taps) * t.in_ld;
  const int64_t k = sizeof(S) == 4 ? i / t.out_ld : i % K, o = sizeof(S) == 4 ? i - k * t.out_ld : i / K;
  const int64_t tap = k / t.in_ld, c = k - tap * t.in_ld;
  const float v = o < t.O && c < t.I ? gload(t.source + (o * t.I + c) * t.taps + tap) : 0.0f;
  gstore(static_cast<S*>(t.out) + i, from_float<S>(v));
}

__device__ __forceinline__ void pack_norm(const PackTask& t, int c) {
  float* out = static_cast<float*>(t.out);
  float scale = 0, shift = 0, gamma = 0, beta = 0;
  if (c < t.O) {
    gamma = gload(t.source + c);
    beta = gload(t.more[0] + c);
    const double factor = gamma / sqrt(static_cast<double>(gload(t.more[2] + c)) + static_cast<double>(t.eps));
    scale = static_cast<float>(factor);
    shift = static_cast<float>(beta - gload(t.more[1] + c) * factor);
  }
  gstore(out + c, scale);
  gstore(out + t.out_ld + c, shift);
  gstore(out + 2 * t.out_ld + c, gamma);
  gstore(out + 3 * t.out_ld + c, beta);
}

template <class S>
__device__ __forceinline__ void pack_element(const PackTask& t, int64_t i) {
  float* out = static_cast<float*>(t.out);
  switch (t.kind) {
    case PackKind::kDense:
      return pack_dense<S>(t, i);
    case PackKind::kDepthwise: {
      const int64_t tap = i / t.out_ld, c = i - tap * t.out_ld;
      return gstore(out + i, c < t.O ? gload(t.source + c * t.taps + tap) : 0.0f);
    }
    case PackKind::kRows: {
      const int64_t o = i / t.in_ld, c = i - o * t.in_ld;
      return gstore(out + i, c < t.I ? gload(t.source + o * t.I + c) : 0.0f);
    }
    case PackKind::kNorm:
      return pack_norm(t, static_cast<int>(i));
    case PackKind::kBias:
      gstore(out + i, 1.0f);
      return gstore(out + t.out_ld + i, i < t.O ? gload(t.source + i) : 0.0f);
  }
}

__device__ __forceinline__ int64_t pack_elements(const PackTask& t) {
  switch (t.kind) {
    case PackKind::kDense:
      return static_cast<int64_t>(t.taps) * t.in_ld * t.out_ld;
    case PackKind::kDepthwise:
      return static_cast<int64_t>(t.taps) * t.out_ld;
    case PackKind::kRows:
      return static_cast<int64_t>(t.O) * t.in_ld;
    default:
      return t.out_ld;
  }
}

template <class S>
__global__ void __launch_bounds__(kPackThreads) child_pack_kernel(const NASFAST_TASK_PARAMETER PackArgs args) {
  const PackTask& task = args.task[entry_of_block(args.task, args.tasks)];
  const int64_t first = (static_cast<int64_t>(blockIdx.x) - task.block) * kPackItems;
  const int64_t all = pack_elements(task), end = all < first + kPackItems ? all : first + kPackItems;
  for (int64_t i = first + threadIdx.x; i < end; i += kPackThreads) pack_element<S>(task, i);
}

}  // namespace

template <class S>
void launch_images(const ImagesArgs& args, cudaStream_t stream) {
  constexpr int V = 16 / static_cast<int>(sizeof(S));
  const char* name = "child_images";
  const int64_t items = static_cast<int64_t>(args.N) * args.H * args.W * (args.ld / V);
  launch({name, grid_for(name, items, kPackThreads), dim3(kPackThreads), 0, stream}, child_images_kernel<S>, args);
}

template <class S>
void launch_pack(const PackArgs& args, int64_t blocks, cudaStream_t stream) {
  const char* name = "child_pack";
  launch({name, make_grid(name, blocks), dim3(kPackThreads), 0, stream}, child_pack_kernel<S>, args);
}

template void launch_images<float>(const ImagesArgs&, cudaStream_t);
template void launch_images<bf16_t>(const ImagesArgs&, cudaStream_t);
template void launch_images<half_t>(const ImagesArgs&, cudaStream_t);
template void launch_pack<float>(const PackArgs&, int64_t, cudaStream_t);
template void launch_pack<bf16_t>(const PackArgs&, int64_t, cudaStream_t);
template void launch_pack<half_t>(const PackArgs&, int64_t, cudaStream_t);

}  // namespace nasfast::child_eval
