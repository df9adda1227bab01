// Dense convolutions of many groups in one launch, and the gradients of what they read, as implicit matrix products.
//
//   forward    y[q][o]  = sum_{t, c} u[q*S + t*D - pad][c] * w[t][c][o]             u: what is read
//   gradient   gu[p][c] = sum_{t, o} dy[(p + pad - t*D) / S][o] * w[t][o][c]        where that is a whole number
//   block      128 threads, a tile of 64 pixels of the result x 16, 32 or 64 channels, 16 of the depth at a time
//   sums       float32 without TF32, in the order of taps and channels: the same bits on every run
//
// What is read is normalised and activated on its way into shared memory; a gradient goes through the activation
// between the value and the convolution as it is stored.
#include "../core/tile_product.cuh"
#include "read.cuh"

namespace nasfast::supernet {
namespace {

constexpr int kDepthPacks = kProductDepth / kPack;
constexpr int kRows = kProductRows * kDepthPacks / kProductThreads;  // of a tile, read by one thread

// Walks along the depth of the tile's pixels: taps, and channels of a tap.
template <bool GRADIENT>
class TapReader {
 public:
  __device__ __forceinline__ TapReader(const LayerTask& task, int64_t first, int64_t pixels) : task_(task) {
    const Window& w = task.window;
    const int area = w.result_h * w.result_w;
#pragma unroll
    for (int j = 0; j < kRows; ++j) {
      const int64_t p = first + row(j);
      const int n = static_cast<int>(p) / area, rest = static_cast<int>(p) - n * area;  // a group's pixels: 32 bits
      n_[j] = p < pixels ? n : -1;
      y_[j] = rest / w.result_w;
      x_[j] = rest - y_[j] * w.result_w;
    }
    c_ = column();
    wrap();
  }
  __device__ __forceinline__ static int row(int j) {
    return static_cast<int>(threadIdx.x) / kDepthPacks + j * (kProductThreads / kDepthPacks);
  }
  __device__ __forceinline__ static int column() { return static_cast<int>(threadIdx.x) % kDepthPacks * kPack; }

  // The next 16 of the depth.
  __device__ __forceinline__ void read(Pack<float, kPack> (&out)[kRows]) {
    const Window& w = task_.window;
#pragma unroll
    for (int j = 0; j < kRows; ++j) {
      float v[kPack] = {};
      if (n_[j] >= 0 && ky_ < w.kernel) {
        const int y = tap_source<GRADIENT>(w, y_[j], ky_, w.source_h);
        const int x = tap_source<GRADIENT>(w, x_[j], kx_, w.source_w);
        if (y >= 0 && x >= 0)
          read_pixel<float>(task_.x, (static_cast<int64_t>(n_[j]) * w.source_h + y) * w.source_w + x, w.source_ld, c_,
                            v);
      }
      out[j] = nasfast::pack<float>(v);
    }
    c_ += kProductDepth;
    wrap();
  }

 private:
  __device__ __forceinline__ void wrap() {
    while (c_ >= task_.window.source_ld) {
      c_ -= task_.window.source_ld;
      if (++kx_ == task_.window.kernel) {
        kx_ = 0;
        ++ky_;
      }
    }
  }

  const LayerTask& task_;
  int n_[kRows], y_[kRows], x_[kRows];
  int c_, ky_ = 0, kx_ = 0;
};

template <int NB>
constexpr int kWeightPacks = (kProductDepth * NB / kPack + kProductThreads - 1) / kProductThreads;

template <int NB>
__device__ __forceinline__ void read_weights(const float* w, int k0, int depth, int n0, int ld,
                                             Pack<float, kPack> (&out)[kWeightPacks<NB>]) {
#pragma unroll
  for (int j = 0; j < kWeightPacks<NB>; ++j) {
    const int i = static_cast<int>(threadIdx.x) + j * kProductThreads;
    const int k = i / (NB / kPack), n = n0 + i % (NB / kPack) * kPack;
    out[j] = {};
    if (k < kProductDepth && k0 + k < depth && n < ld)
      out[j] = gload_vec<float, kPack>(w + static_cast<int64_t>(k0 + k) * ld + n);
  }
}

template <int NB, bool GRADIENT>
__global__ void __launch_bounds__(kProductThreads) supernet_conv_kernel(Table<LayerTask> table) {
  using Product = TileProduct<float, NB>;
  SharedArena arena;
  const Shared<float> a = arena.take<float>(Product::kSizeA), b = arena.take<float>(Product::kSizeB);
  const LayerTask task = task_of_block(table);
  const Window& w = task.window;
  const int columns = (w.result_ld + NB - 1) / NB, tile = static_cast<int>(blockIdx.x) - task.block;
  const int n0 = tile % columns * NB, depth = w.kernel * w.kernel * w.source_ld;
  const int64_t first = static_cast<int64_t>(tile / columns) * kProductRows;
  const int64_t pixels = static_cast<int64_t>(task.images) * w.result_h * w.result_w;
  TapReader<GRADIENT> input(task, first, pixels);
  Pack<float, kPack> va[kRows], vb[kWeightPacks<NB>];
  input.read(va);
  read_weights<NB>(task.weights, 0, depth, n0, w.result_ld, vb);
  Product product;
  for (int k0 = 0; k0 < depth; k0 += kProductDepth) {
    __syncthreads();
#pragma unroll
    for (int j = 0; j < kRows; ++j) a.store_vec(Product::at_a(input.row(j), input.column()), va[j]);
#pragma unroll
    for (int j = 0; j < kWeightPacks<NB>; ++j) {
      const int i = static_cast<int>(threadIdx.x) + j * kProductThreads;
      if (i < kProductDepth * NB / kPack) b.store_vec(Product::at_b(i / (NB / kPack), i % (NB / kPack) * kPack), vb[j]);
    }
    __syncthreads();
    if (k0 + kProductDepth < depth) {
      input.read(va);
      read_weights<NB>(task.weights, k0 + kProductDepth, depth, n0, w.result_ld, vb);
    }
    product.step(a, b);
  }
  product.emit([&](int row, int column, const Pack<float, kPack>& sums) {
    const int n = n0 + column;
    if (first + row >= pixels || n >= w.result_ld) return;
    float v[kPack];
#pragma unroll
    for (int i = 0; i < kPack; ++i) v[i] = n + i < task.channels ? sums[i] : 0.0f;  // infinity * 0 is not zero
    if constexpr (GRADIENT)
      store_gradient(task, first + row, w.result_ld, n, v);
    else
      store_pack(task.out + (first + row) * w.result_ld + n, v);
  });
}

template <int NB>
void launch_width(const Table<LayerTask>& table, bool gradient, int64_t blocks, cudaStream_t stream) {
  using Product = TileProduct<float, NB>;
  const char* name = gradient ? "supernet_conv_grad" : "supernet_conv";
  launch({name, make_grid(name, blocks), dim3(kProductThreads),
          shared_bytes<float>(Product::kSizeA) + shared_bytes<float>(Product::kSizeB), stream},
         gradient ? supernet_conv_kernel<NB, true> : supernet_conv_kernel<NB, false>, table);
}

}  // namespace

void launch_conv(const Table<LayerTask>& table, int width, bool gradient, int64_t blocks, cudaStream_t stream) {
  const auto run = width == 16 ? launch_width<16> : width == 32 ? launch_width<32> : launch_width<64>;
  run(table, gradient, blocks, stream);
}

}  // namespace nasfast::supernet
