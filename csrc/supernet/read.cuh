// Tasks and values as the CUDA kernels of the supernet's training step read them.
#pragma once

#include <cstring>

#include "../core/launch.h"
#include "../core/read.cuh"
#include "kernels_cuda.h"

namespace nasfast::supernet {

// A structure of a table in global memory, in registers.
template <class T>
__device__ __forceinline__ T load_struct(const T* p) {
  static_assert(sizeof(T) % 8 == 0);
  constexpr int kWords = static_cast<int>(sizeof(T) / 8);
  Pack<uint32_t, 2> words[kWords];
#pragma unroll
  for (int i = 0; i < kWords; ++i) words[i] = gload_vec<uint32_t, 2>(reinterpret_cast<const uint32_t*>(p) + 2 * i);
  T out;
  memcpy(&out, words, sizeof(T));
  return out;
}

// The task that this block works on.
template <class Task>
__device__ __forceinline__ Task task_of_block(const Table<Task>& table) {
  int low = 0, high = table.count - 1;
  while (low < high) {
    const int middle = (low + high + 1) / 2;
    if (gload(&table.tasks[middle].block) <= static_cast<int>(blockIdx.x))
      low = middle;
    else
      high = middle - 1;
  }
  return load_struct(table.tasks + low);
}

__device__ __forceinline__ void load_pack(const float* p, float (&v)[kPack]) { unpack(gload_vec<float, kPack>(p), v); }
__device__ __forceinline__ void store_pack(float* p, const float (&v)[kPack]) {
  gstore_vec(p, nasfast::pack<float>(v));
}

// Where an activation passes no gradient: on its bounds too, as in torch; never for NaN.
__device__ __forceinline__ bool closed(float v, int act) {
  return act != kActNone && (v <= 0 || (act == kActRelu6 && v >= 6));
}

// out (+)= g where `then` of what was read passes it.
__device__ __forceinline__ void store_gradient(const LayerTask& task, int64_t pixel, int ld, int c, float (&g)[kPack]) {
  if (task.then != kActNone) {
    float v[kPack];
    read_pixel<float>(task.gate, pixel, ld, c, v);
#pragma unroll
    for (int i = 0; i < kPack; ++i) g[i] = closed(v[i], task.then) ? 0.0f : g[i];
  }
  float* out = task.out + pixel * ld + c;
  if (task.add) {
    float before[kPack];
    load_pack(out, before);
#pragma unroll
    for (int i = 0; i < kPack; ++i) g[i] += before[i];
  }
  store_pack(out, g);
}

// Position that a tap reads for position `at` of the result; below 0: none. Forward: at*S - pad + k*D. Gradient: the
// position whose window holds `at` in that tap.
template <bool GRADIENT>
__device__ __forceinline__ int tap_source(const Window& w, int at, int k, int size) {
  int from;
  if constexpr (GRADIENT) {
    from = at + w.pad - k * w.dilation;
    if (from < 0 || (w.stride == 2 && from % 2 != 0)) return -1;
    from = w.stride == 2 ? from / 2 : from;
  } else {
    from = at * w.stride - w.pad + k * w.dilation;
  }
  return from < size ? from : -1;
}

}  // namespace nasfast::supernet
