// Depthwise convolution of one thread: a strip of kTile pixels of a row, one channel, from an image in shared memory.
//
// A row of the input is read once into registers and used by every tap of a kernel's row. Lanes take neighbouring
// channels, which are neighbours in memory too.
#pragma once

#include "image.cuh"

namespace nasfast::mixed_op {

// Calls f.operator()<kernel, dilation>() for one of the geometries that the front of the op admits.
template <class F>
__device__ __forceinline__ void with_kernel(int kernel, int dilation, const F& f) {
  if (dilation == 1) {
    if (kernel == 3) return f.template operator()<3, 1>();
    if (kernel == 5) return f.template operator()<5, 1>();
    return f.template operator()<7, 1>();
  }
  if (kernel == 3) return f.template operator()<3, 2>();
  return f.template operator()<5, 2>();
}

// out[j] += sum of weight[ky][kx] * image[ky*D][j*STRIDE + kx*D], the image taken from element `first` on.
template <int K, int D, int STRIDE>
__device__ __forceinline__ void depthwise_strip(const Shared<float>& image, int first, int row_step, int pixel_step,
                                                const Shared<float>& weight, int weight_first, int weight_step,
                                                float (&out)[kTile]) {
  constexpr int kReach = (kTile - 1) * STRIDE + (K - 1) * D + 1, kStep = STRIDE == 2 && D == 2 ? 2 : 1;
#pragma unroll 1
  for (int ky = 0; ky < K; ++ky) {
    float in[kReach];
#pragma unroll
    for (int q = 0; q < kReach; q += kStep) in[q] = image[first + ky * D * row_step + q * pixel_step];
#pragma unroll
    for (int kx = 0; kx < K; ++kx) {
      const float w = weight[weight_first + (ky * K + kx) * weight_step];
#pragma unroll
      for (int j = 0; j < kTile; ++j) out[j] += w * in[j * STRIDE + kx * D];
    }
  }
}

// Rows (and columns) of the gradient of a convolution with stride 2 that reach a tile of its input.
template <int K, int D>
inline constexpr int kScatterBefore = (D * (K - 1) / 2 + 1) / 2;
template <int K, int D>
inline constexpr int kScatterReach = (kTile - 1 + D * (K - 1) / 2) / 2 + kScatterBefore<K, D> + 1;

// out[j] += the gradient at row `row`, column j of a tile of the input, from the gradient of the output of a depthwise
// convolution with stride 2. The gradient's image starts kScatterBefore rows and columns before the tile's.
template <int K, int D>
__device__ __forceinline__ void depthwise_scatter(const Shared<float>& image, int first, int row_step, int pixel_step,
                                                  int row, const Shared<float>& weight, int weight_first,
                                                  int weight_step, float (&out)[kTile]) {
  constexpr int kPad = D * (K - 1) / 2, kBefore = kScatterBefore<K, D>, kReach = kScatterReach<K, D>;
#pragma unroll 1
  for (int ky = 0; ky < K; ++ky) {
    const int from = row + kPad - ky * D;
    if (from % 2 != 0) continue;
    const int source = from / 2 + kBefore;
    float in[kReach];
#pragma unroll
    for (int q = 0; q < kReach; ++q) in[q] = image[first + source * row_step + q * pixel_step];
#pragma unroll
    for (int kx = 0; kx < K; ++kx) {
      const float w = weight[weight_first + (ky * K + kx) * weight_step];
#pragma unroll
      for (int j = 0; j < kTile; ++j) {
        constexpr int kOffset = 2 * kBefore + kPad;
        const int t = j + kOffset - kx * D;
        if (t % 2 == 0) out[j] += w * in[t / 2];
      }
    }
  }
}

}  // namespace nasfast::mixed_op
