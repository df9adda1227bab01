// Sums, concatenations and pools of many nodes in one launch.
//
//   block    256 threads, 1,024 packs of channels of a task's output, pixel after pixel
//   sums     float32, in the order of the terms; average pools in row-major order, the padding not counted
//
// Terms are finished while they are read.
#include "../core/launch.h"
#include "../core/read.cuh"
#include "kernels_cuda.h"

namespace nasfast::child_eval {
namespace {

struct Place {
  int64_t pixel;
  int c;
};

template <class S, int V>
__device__ __forceinline__ void sum_terms(const Source* term, int terms, int ld, const Place& at, float (&out)[V]) {
  for (int t = 0; t < terms; ++t) {
    float v[V];
    read_pixel<S>(term[t], at.pixel, ld, at.c, v);
#pragma unroll
    for (int i = 0; i < V; ++i) out[i] = t == 0 ? v[i] : out[i] + v[i];
  }
}

template <class S>
__device__ __forceinline__ float read_channel(const Source& x, int64_t pixel, int c) {
  const int ld = leading<S>(x.channels);
  float v[1] = {to_float(gload(static_cast<const S*>(x.data) + pixel * ld + c))};
  if (x.affine) v[0] = gload(x.affine + c) * v[0] + gload(x.affine + ld + c);
  return activated(v[0], x.act);
}

template <class S, int V>
__device__ __forceinline__ void join_terms(const Source* term, int terms, const Place& at, float (&out)[V]) {
  int first = 0, t = 0;  // of the term that holds at.c
  while (t < terms && at.c - first >= term[t].channels) first += term[t++].channels;
  if (t < terms && (at.c - first) % V == 0 && at.c - first + V <= term[t].channels)
    return read_pixel<S>(term[t], at.pixel, leading<S>(term[t].channels), at.c - first, out);
#pragma unroll
  for (int i = 0; i < V; ++i) {
    while (t < terms && at.c + i - first >= term[t].channels) first += term[t++].channels;
    out[i] = t < terms ? read_channel<S>(term[t], at.pixel, at.c + i - first) : 0.0f;
  }
}

template <class S, int V>
__device__ __forceinline__ void pool(const Source& x, const TaskShape& s, bool maximum, const Place& at,
                                     float (&out)[V]) {
  const int area = s.h * s.w, n = static_cast<int>(at.pixel / area);
  const int rest = static_cast<int>(at.pixel - static_cast<int64_t>(n) * area), oy = rest / s.w, ox = rest - oy * s.w;
  int count = 0;
  for (int ky = 0; ky < s.kernel; ++ky) {
    for (int kx = 0; kx < s.kernel; ++kx) {
      const int y = oy * s.stride - s.pad + ky, xx = ox * s.stride - s.pad + kx;
      if (y < 0 || y >= s.H || xx < 0 || xx >= s.W) continue;
      float v[V];
      read_pixel<S>(x, (static_cast<int64_t>(n) * s.H + y) * s.W + xx, s.in_ld, at.c, v);
#pragma unroll
      for (int i = 0; i < V; ++i) {
        if (count == 0)
          out[i] = v[i];
        else if (!maximum)
          out[i] += v[i];
        else if (v[i] > out[i] || v[i] != v[i])  // NaN wins
          out[i] = v[i];
      }
      ++count;
    }
  }
  if (maximum) return;
#pragma unroll
  for (int i = 0; i < V; ++i) out[i] /= static_cast<float>(count);
}

template <class S>
__global__ void __launch_bounds__(kMapThreads) child_map_kernel(const NASFAST_TASK_PARAMETER MapArgs args) {
  constexpr int V = kVector<S>;
  const MapTask& task = args.task[entry_of_block(args.task, args.tasks)];
  const TaskShape& s = args.shape[task.shape];
  const Source* term = args.term + task.first_term;
  const int packs = s.out_ld / V;
  const int64_t items = static_cast<int64_t>(args.N) * s.h * s.w * packs;
  const int64_t first = (static_cast<int64_t>(blockIdx.x) - task.block) * kMapItems;
  for (int j = 0; j < kMapItems / kMapThreads; ++j) {
    const int64_t item = first + j * kMapThreads + threadIdx.x;
    if (item >= items) return;
    Place at;
    at.pixel = item / packs;
    at.c = static_cast<int>(item - at.pixel * packs) * V;
    float v[V] = {};
    if (task.kind == MapKind::kSum)
      sum_terms<S>(term, task.terms, s.out_ld, at, v);
    else if (task.kind == MapKind::kConcat)
      join_terms<S>(term, task.terms, at, v);
    else
      pool<S>(*term, s, task.kind == MapKind::kMaximum, at, v);
    gstore_vec(static_cast<S*>(task.out) + at.pixel * s.out_ld + at.c, pack<S>(v));
  }
}

}  // namespace

template <class S>
void launch_map(const MapArgs& args, int64_t blocks, cudaStream_t stream) {
  const char* name = "child_map";
  launch({name, make_grid(name, blocks), dim3(kMapThreads), 0, stream}, child_map_kernel<S>, args);
}

template void launch_map<float>(const MapArgs&, int64_t, cudaStream_t);
template void launch_map<bf16_t>(const MapArgs&, int64_t, cudaStream_t);
template void launch_map<half_t>(const MapArgs&, int64_t, cudaStream_t);

}  // namespace nasfast::child_eval
