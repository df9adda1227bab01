// Depthwise convolutions of many groups in one launch, and the gradients of what they read.
//
//   forward    y[q]  = sum_t u[q*S + t*D - pad] * w[t]
//   gradient   gu[p] = sum_t dy[(p + pad - t*D) / S] * w[t]      where that is a whole number
//   block      256 threads, 1,024 packs of four channels of a task's result, pixel after pixel
//   sums       float32, tap after tap
#include "read.cuh"

namespace nasfast::supernet {
namespace {

template <bool GRADIENT>
__global__ void __launch_bounds__(kMapThreads) supernet_depthwise_kernel(Table<LayerTask> table) {
  const LayerTask task = task_of_block(table);
  const Window& w = task.window;
  const int packs = w.result_ld / kPack, area = w.result_h * w.result_w;
  const int64_t items = static_cast<int64_t>(task.images) * area * packs;
  const int64_t first = (static_cast<int64_t>(blockIdx.x) - task.block) * kMapItems;
  for (int j = 0; j < kMapItems / kMapThreads; ++j) {
    const int64_t item = first + j * kMapThreads + threadIdx.x;
    if (item >= items) return;
    const int pixel = static_cast<int>(quotient(item, packs));  // of a group: 32 bits
    const int c = static_cast<int>(item - static_cast<int64_t>(pixel) * packs) * kPack, n = pixel / area;
    const int rest = pixel - n * area, y = rest / w.result_w;
    const int x = rest - y * w.result_w;
    float sum[kPack] = {};
#pragma unroll 1  // unrolled, the loops spill
    for (int ky = 0; ky < w.kernel; ++ky) {
      const int sy = tap_source<GRADIENT>(w, y, ky, w.source_h);
      if (sy < 0) continue;
#pragma unroll 1
      for (int kx = 0; kx < w.kernel; ++kx) {
        const int sx = tap_source<GRADIENT>(w, x, kx, w.source_w);
        if (sx < 0) continue;
        float u[kPack], weight[kPack];
        read_pixel<float>(task.x, (static_cast<int64_t>(n) * w.source_h + sy) * w.source_w + sx, w.source_ld, c, u);
        load_pack(task.weights + static_cast<int64_t>(ky * w.kernel + kx) * w.result_ld + c, weight);
#pragma unroll
        for (int i = 0; i < kPack; ++i) sum[i] += u[i] * weight[i];
      }
    }
    if constexpr (GRADIENT)
      store_gradient(task, pixel, w.result_ld, c, sum);
    else
      store_pack(task.out + static_cast<int64_t>(pixel) * w.result_ld + c, sum);
  }
}

}  // namespace

void launch_depthwise(const Table<LayerTask>& table, bool gradient, int64_t blocks, cudaStream_t stream) {
  const char* name = gradient ? "supernet_depthwise_grad" : "supernet_depthwise";
  launch({name, make_grid(name, blocks), dim3(kMapThreads), 0, stream},
         gradient ? supernet_depthwise_kernel<true> : supernet_depthwise_kernel<false>, table);
}

}  // namespace nasfast::supernet
