// Sums, concatenations, pools and picks of many groups in one launch, and their gradients.
//
//   block    256 threads, 1,024 packs of four channels of a task's result, pixel after pixel
//   sums     float32, in the order of the terms; pools in row-major order, the padding not counted
//   bounds   name the blocks of a multiprocessor: of itself ptxas spills to make room for more of them
//
// Terms are normalised and activated while they are read. The gradient of a pool is gathered: every pixel asks the
// windows that hold it, so nothing is added by two threads; a maximum goes to its first pixel, as in torch.
#include "read.cuh"

namespace nasfast::supernet {
namespace {

struct Place {
  int pixel;  // of a group, whose pixels fit into 32 bits
  int n, y, x, c;
};

// Where channel c of a pixel stands.
__device__ __forceinline__ int64_t element(int pixel, int ld, int c) { return static_cast<int64_t>(pixel) * ld + c; }

// f(Place) for what this thread has of its task.
template <class F>
__device__ __forceinline__ void each_pack(const LayerTask& task, const F& f) {
  const Window& w = task.window;
  const int packs = w.result_ld / kPack, area = w.result_h * w.result_w;
  const int64_t items = static_cast<int64_t>(task.images) * area * packs;
  const int64_t first = (static_cast<int64_t>(blockIdx.x) - task.block) * kMapItems;
  for (int j = 0; j < kMapItems / kMapThreads; ++j) {
    const int64_t item = first + j * kMapThreads + threadIdx.x;
    if (item >= items) return;
    Place at;
    at.pixel = static_cast<int>(quotient(item, packs));
    at.c = static_cast<int>(item - static_cast<int64_t>(at.pixel) * packs) * kPack;
    at.n = at.pixel / area;
    const int rest = at.pixel - at.n * area;
    at.y = rest / w.result_w;
    at.x = rest - at.y * w.result_w;
    f(at);
  }
}

__device__ __forceinline__ void sum_terms(const LayerTask& task, const Source* terms, const Place& at,
                                          float (&out)[kPack]) {
  for (int t = 0; t < task.terms; ++t) {
    const Source term = load_struct(terms + task.first + t);
    float v[kPack];
    read_pixel<float>(term, at.pixel, task.window.result_ld, at.c, v);
#pragma unroll
    for (int i = 0; i < kPack; ++i) out[i] = t == 0 ? v[i] : out[i] + v[i];
  }
}

__device__ __forceinline__ void join_terms(const LayerTask& task, const Source* terms, const Place& at,
                                           float (&out)[kPack]) {
  int first = 0;
  for (int t = 0; t < task.terms && first < at.c + kPack; ++t) {
    const Source term = load_struct(terms + task.first + t);
    const int ld = leading(term.channels);
    const float* pixel = static_cast<const float*>(term.data) + element(at.pixel, ld, 0);
#pragma unroll
    for (int i = 0; i < kPack; ++i) {
      const int c = at.c + i - first;
      if (c < 0 || c >= term.channels) continue;
      float v = gload(pixel + c);
      if (term.affine) v = gload(term.affine + c) * v + gload(term.affine + ld + c);
      out[i] = activated(v, term.act);
    }
    first += term.channels;
  }
}

__device__ __forceinline__ int source_pixel(const Window& w, int n, int y, int x) {
  return (n * w.source_h + y) * w.source_w + x;
}

__device__ __forceinline__ void pool(const LayerTask& task, const Place& at, float (&out)[kPack]) {
  const Window& w = task.window;
  const bool maximum = task.kind == MapKind::kMaximum;
  int count = 0;
  for (int ky = 0; ky < w.kernel; ++ky)
    for (int kx = 0; kx < w.kernel; ++kx) {
      const int y = tap_source<false>(w, at.y, ky, w.source_h), x = tap_source<false>(w, at.x, kx, w.source_w);
      if (y < 0 || x < 0) continue;
      float v[kPack];
      read_pixel<float>(task.x, source_pixel(w, at.n, y, x), w.source_ld, at.c, v);
#pragma unroll
      for (int i = 0; i < kPack; ++i) {
        if (count == 0)
          out[i] = v[i];
        else if (!maximum)
          out[i] += v[i];
        else if (v[i] > out[i] || v[i] != v[i])  // NaN wins
          out[i] = v[i];
      }
      ++count;
    }
  if (maximum || count == 1) return;
#pragma unroll
  for (int i = 0; i < kPack; ++i) out[i] /= static_cast<float>(count);
}

__global__ void __launch_bounds__(kMapThreads, 4) supernet_map_kernel(Table<LayerTask> table, const Source* terms) {
  const LayerTask task = task_of_block(table);
  each_pack(task, [&](const Place& at) {
    float v[kPack] = {};
    if (task.kind == MapKind::kSum)
      sum_terms(task, terms, at, v);
    else if (task.kind == MapKind::kConcat)
      join_terms(task, terms, at, v);
    else
      pool(task, at, v);
    store_pack(task.out + element(at.pixel, task.window.result_ld, at.c), v);
  });
}

// gradients: the window's source is the gradient of the unit's result, its result what the unit read

// Pixels of an axis that the window at `at` holds.
__device__ __forceinline__ int taps_inside(const Window& w, int at, int size) {
  const int start = at * w.stride - w.pad;
  return min(start + w.kernel, size) - max(start, 0);
}

// Whether pixel (y, x) is where the window at (qy, qx) has its maximum, channel by channel.
__device__ __forceinline__ void holds_maximum(const LayerTask& task, const Place& at, int qy, int qx,
                                              bool (&mine)[kPack]) {
  const Window& w = task.window;
  float best[kPack];
  bool found = false;
  for (int ky = 0; ky < w.kernel; ++ky)
    for (int kx = 0; kx < w.kernel; ++kx) {
      const int y = qy * w.stride - w.pad + ky, x = qx * w.stride - w.pad + kx;
      if (y < 0 || y >= w.result_h || x < 0 || x >= w.result_w) continue;
      float v[kPack];
      read_pixel<float>(task.gate, (at.n * w.result_h + y) * w.result_w + x, w.result_ld, at.c, v);
      const bool here = y == at.y && x == at.x;
#pragma unroll
      for (int i = 0; i < kPack; ++i) {
        if (found && !(v[i] > best[i] || v[i] != v[i])) continue;
        best[i] = v[i];
        mine[i] = here;
      }
      found = true;
    }
}

__device__ __forceinline__ void pool_grad(const LayerTask& task, const Place& at, float (&out)[kPack]) {
  const Window& w = task.window;
  const float* gradient = static_cast<const float*>(task.x.data);
  for (int ky = 0; ky < w.kernel; ++ky)
    for (int kx = 0; kx < w.kernel; ++kx) {
      const int qy = tap_source<true>(w, at.y, ky, w.source_h), qx = tap_source<true>(w, at.x, kx, w.source_w);
      if (qy < 0 || qx < 0) continue;
      float g[kPack];
      load_pack(gradient + element(source_pixel(w, at.n, qy, qx), w.source_ld, at.c), g);
      if (task.kind == MapKind::kMaximumGrad) {
        bool mine[kPack] = {};
        holds_maximum(task, at, qy, qx, mine);
#pragma unroll
        for (int i = 0; i < kPack; ++i) out[i] += mine[i] ? g[i] : 0.0f;
      } else {
        const int count = taps_inside(w, qy, w.result_h) * taps_inside(w, qx, w.result_w);
        const float share = 1.0f / static_cast<float>(count);
#pragma unroll
        for (int i = 0; i < kPack; ++i) out[i] += g[i] * share;
      }
    }
}

__device__ __forceinline__ void norm_grad(const LayerTask& task, const Place& at) {
  const int ld = task.window.result_ld;
  const int64_t p = element(at.pixel, ld, at.c);
  float g[kPack], y[kPack], z[kPack];
  load_pack(static_cast<const float*>(task.x.data) + p, g);
  load_pack(static_cast<const float*>(task.gate.data) + p, y);
#pragma unroll
  for (int i = 0; i < kPack; ++i) z[i] = y[i];
  finish(task.gate.affine, ld, kActNone, at.c, z);
#pragma unroll
  for (int i = 0; i < kPack; ++i) g[i] = closed(z[i], task.gate.act) ? 0.0f : g[i];
  if (task.coefficients) {
    float a[kPack];
    load_pack(task.coefficients + at.c, a);
#pragma unroll
    for (int i = 0; i < kPack; ++i) g[i] *= a[i];
  }
  if (task.centred) {
    float b[kPack], c[kPack], mean[kPack];
    load_pack(task.coefficients + ld + at.c, b);
    load_pack(task.coefficients + 2 * ld + at.c, c);
    load_pack(task.gate.affine + 2 * ld + at.c, mean);
#pragma unroll
    for (int i = 0; i < kPack; ++i) g[i] += b[i] * (y[i] - mean[i]) + c[i];
  }
  store_pack(task.out + p, g);
}

__global__ void __launch_bounds__(kMapThreads, 3) supernet_map_grad_kernel(Table<LayerTask> table) {
  const LayerTask task = task_of_block(table);
  each_pack(task, [&](const Place& at) {
    if (task.kind == MapKind::kNormGrad) return norm_grad(task, at);
    const Window& w = task.window;
    const float* g = static_cast<const float*>(task.x.data);
    float v[kPack] = {};
    if (task.kind == MapKind::kPassGrad) {
      load_pack(g + element(at.pixel, w.source_ld, at.c), v);
    } else if (task.kind == MapKind::kPartGrad) {
#pragma unroll
      for (int i = 0; i < kPack; ++i)
        if (at.c + i < task.channels) v[i] = gload(g + element(at.pixel, w.source_ld, task.first + at.c + i));
    } else {
      pool_grad(task, at, v);
    }
    store_gradient(task, at.pixel, w.result_ld, at.c, v);
  });
}

}  // namespace

void launch_map(const Table<LayerTask>& table, const Source* terms, int64_t blocks, cudaStream_t stream) {
  const char* name = "supernet_map";
  launch({name, make_grid(name, blocks), dim3(kMapThreads), 0, stream}, supernet_map_kernel, table, terms);
}

void launch_map_grad(const Table<LayerTask>& table, int64_t blocks, cudaStream_t stream) {
  const char* name = "supernet_map_grad";
  launch({name, make_grid(name, blocks), dim3(kMapThreads), 0, stream}, supernet_map_grad_kernel, table);
}

}  // namespace nasfast::supernet
