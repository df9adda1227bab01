// Dense convolutions of many nodes in one launch: out[p][o] = finish(sum_k x[p][k] * w[k][o]), as one product.
//
//   k        tap by tap, the padded channels of one after those of the other: a pack of channels lies within one tap,
//   so
//            kernels of 1 to 7, strides and dilations all are 16-byte reads of the input, zero outside of the image
//   block    128 threads: 64 output pixels, counted through all images, x up to NB output channels; with statistics a
//            run of such tiles
//   product  core/tile_product.cuh, k in chunks of 16; the next chunk is read into registers while one is multiplied
//   sums     float32, in the order of k; statistics as in moments.cuh. The bits of a pixel depend on the shape of the
//            operation alone: not on the batch, the other nodes of the launch or the order of blocks.
//
// x is finished while it is read (its normalisation, where that is not applied yet, and activations), and so is the
// output before it is written: a convolution with what belongs to it reads and writes every value once.
#include "../core/launch.h"
#include "../core/read.cuh"
#include "../core/tile_product.cuh"
#include "kernels_cuda.h"
#include "moments.cuh"

namespace nasfast::child_eval {
namespace {

constexpr int kThreads = kProductThreads;
static_assert(kConvPixels == kProductRows);

template <int NB>
constexpr int kStagedLd = NB + 4;

template <class S, int NB>
struct ConvShared {
  Shared<S> a, b;
  Shared<float> y, scratch;  // of the statistics
  Shared<double> sums;

  static constexpr int kSizes[5] = {TileProduct<S, NB>::kSizeA, TileProduct<S, NB>::kSizeB, kConvPixels * kStagedLd<NB>,
                                    2 * kThreads, 3 * kThreads};
  __device__ __forceinline__ ConvShared(SharedArena& arena, bool statistics)
      : a(arena.take<S>(kSizes[0])),
        b(arena.take<S>(kSizes[1])),
        y(arena.take<float>(statistics ? kSizes[2] : 0)),
        scratch(arena.take<float>(statistics ? kSizes[3] : 0)),
        sums(arena.take<double>(statistics ? kSizes[4] : 0)) {}
  static size_t bytes(bool statistics) {
    const size_t product = shared_bytes<S>(kSizes[0]) + shared_bytes<S>(kSizes[1]);
    if (!statistics) return product;
    return product + shared_bytes<float>(kSizes[2]) + shared_bytes<float>(kSizes[3]) + shared_bytes<double>(kSizes[4]);
  }
};

// What one thread reads of x: a pack of channels of some pixels, chunk after chunk.
template <class S>
class InputReader {
 public:
  static constexpr int kVec = kVector<S>, kPacks = kProductDepth / kVec;
  static constexpr int kRows = kConvPixels * kPacks / kThreads;  // pixels of a thread

  __device__ __forceinline__ InputReader(const Source& x, const TaskShape& s, int pixel, int pixels) : x_(x), s_(s) {
    const int area = s.h * s.w;
#pragma unroll
    for (int j = 0; j < kRows; ++j) {
      const int p = pixel + row(j);
      n_[j] = p < pixels ? p / area : -1;
      const int rest = p - p / area * area, oy = rest / s.w;
      y_[j] = oy * s.stride - s.pad;
      x0_[j] = (rest - oy * s.w) * s.stride - s.pad;
    }
    c_ = static_cast<int>(threadIdx.x) % kPacks * kVec;
    wrap();
  }

  __device__ __forceinline__ static int row(int j) {
    return static_cast<int>(threadIdx.x) / kPacks + j * (kThreads / kPacks);
  }
  __device__ __forceinline__ static int column() { return static_cast<int>(threadIdx.x) % kPacks * kVec; }

  // The next chunk.
  __device__ __forceinline__ void read(Pack<S, kVec> (&out)[kRows]) {
#pragma unroll
    for (int j = 0; j < kRows; ++j) {
      const int y = y_[j] + ky_ * s_.dilation, x = x0_[j] + kx_ * s_.dilation;
      float v[kVec] = {};
      if (n_[j] >= 0 && ky_ < s_.kernel && y >= 0 && y < s_.H && x >= 0 && x < s_.W)
        read_pixel<S>(x_, (static_cast<int64_t>(n_[j]) * s_.H + y) * s_.W + x, s_.in_ld, c_, v);
      out[j] = pack<S>(v);
    }
    c_ += kProductDepth;
    wrap();
  }

 private:
  __device__ __forceinline__ void wrap() {
    while (c_ >= s_.in_ld) {
      c_ -= s_.in_ld;
      if (++kx_ == s_.kernel) {
        kx_ = 0;
        ++ky_;
      }
    }
  }

  const Source& x_;
  const TaskShape& s_;
  int n_[kRows], y_[kRows], x0_[kRows];
  int c_, ky_ = 0, kx_ = 0;
};

// The same of the weights, as the product keeps them: along n in float32, along k in 16 bits.
template <class S, int NB>
class WeightReader {
 public:
  static constexpr int kVec = kVector<S>;
  static constexpr bool kAlongN = sizeof(S) == 4;
  static constexpr int kSide = (kAlongN ? NB : kProductDepth) / kVec;
  static constexpr int kAll = kProductDepth * NB / kVec, kEach = (kAll + kThreads - 1) / kThreads;

  __device__ __forceinline__ WeightReader(const void* w, int K, int n0, int ld)
      : w_(static_cast<const S*>(w)), K_(K), n0_(n0), ld_(ld) {}

  __device__ __forceinline__ void read(int k0, Pack<S, kVec> (&out)[kEach]) const {
#pragma unroll
    for (int j = 0; j < kEach; ++j) {
      const int i = static_cast<int>(threadIdx.x) + j * kThreads;
      const int k = k0 + k_of(i), n = n0_ + n_of(i);
      out[j] = {};
      if (i < kAll && k < K_ && n < ld_)
        out[j] =
            gload_vec<S, kVec>(w_ + (kAlongN ? static_cast<int64_t>(k) * ld_ + n : static_cast<int64_t>(n) * K_ + k));
    }
  }
  __device__ __forceinline__ static void store(const Pack<S, kVec> (&packs)[kEach], const Shared<S>& b) {
#pragma unroll
    for (int j = 0; j < kEach; ++j) {
      const int i = static_cast<int>(threadIdx.x) + j * kThreads;
      if (i < kAll) b.store_vec(TileProduct<S, NB>::at_b(k_of(i), n_of(i)), packs[j]);
    }
  }

 private:
  __device__ __forceinline__ static int k_of(int i) { return kAlongN ? i / kSide : i % kSide * kVec; }
  __device__ __forceinline__ static int n_of(int i) { return kAlongN ? i % kSide * kVec : i / kSide; }

  const S* w_;
  int K_, n0_, ld_;
};

template <class S, int NB>
__device__ __forceinline__ void multiply(const ConvTask& task, const TaskShape& s, int pixel, int pixels, int n0,
                                         const ConvShared<S, NB>& shared, TileProduct<S, NB>& product) {
  const int K = s.kernel * s.kernel * s.in_ld;
  InputReader<S> input(task.x, s, pixel, pixels);
  const WeightReader<S, NB> weights(task.weights, K, n0, s.out_ld);
  Pack<S, kVector<S>> a[InputReader<S>::kRows], b[WeightReader<S, NB>::kEach];
  input.read(a);
  weights.read(0, b);
  for (int k0 = 0; k0 < K; k0 += kProductDepth) {
    __syncthreads();
#pragma unroll
    for (int j = 0; j < InputReader<S>::kRows; ++j)
      shared.a.store_vec(TileProduct<S, NB>::at_a(input.row(j), input.column()), a[j]);
    weights.store(b, shared.b);
    __syncthreads();
    if (k0 + kProductDepth < K) {
      input.read(a);
      weights.read(k0 + kProductDepth, b);
    }
    product.step(shared.a, shared.b);
  }
}

template <class S, int NB>
__device__ __forceinline__ void emit(const ConvTask& task, const TaskShape& s, int pixel, int pixels, int n0,
                                     bool statistics, const ConvShared<S, NB>& shared,
                                     const TileProduct<S, NB>& product) {
  product.emit([&]<int N>(int row, int column, const Pack<float, N>& sums) {
    const int n = n0 + column;
    if (pixel + row >= pixels) return;
    float v[N];
#pragma unroll
    for (int i = 0; i < N; ++i) v[i] = n + i < s.channels ? sums[i] : 0.0f;  // infinity * 0 is not zero
    if (n < s.out_ld) {
      finish(task.after, s.out_ld, task.act, n, v);
      const int64_t at = static_cast<int64_t>(pixel + row) * s.out_ld + n;
      if (task.residual) {
        float r[N];
        unpack(gload_vec<S, N>(static_cast<const S*>(task.residual) + at), r);
#pragma unroll
        for (int i = 0; i < N; ++i) v[i] += r[i];
      }
      gstore_vec(static_cast<S*>(task.out) + at, pack<S>(v));
    }
    if (statistics) {
#pragma unroll
      for (int i = 0; i < N; ++i) shared.y[row * kStagedLd<NB> + column + i] = rounded<S>(v[i]);
    }
  });
}

// Of NB channels of a tile; thread c < NB returns channel c's.
template <int NB>
__device__ __forceinline__ Moments tile_moments(int count, const Shared<float>& y, const Shared<float>& scratch) {
  constexpr int kParts = kThreads / NB;
  const int c = static_cast<int>(threadIdx.x) % NB, part = static_cast<int>(threadIdx.x) / NB;
  const float first = y[c];
  float sum = 0, square = 0;
  for (int p = part; p < count; p += kParts) {
    const float t = y[p * kStagedLd<NB> + c] - first;
    sum += t;
    square += t * t;
  }
  scratch[threadIdx.x] = sum;
  scratch[kThreads + threadIdx.x] = square;
  __syncthreads();
  if (threadIdx.x >= NB) return {};
  for (int i = 1; i < kParts; ++i) {
    sum += scratch[i * NB + c];
    square += scratch[kThreads + i * NB + c];
  }
  const float mean = sum / static_cast<float>(count);
  return {static_cast<float>(count), first, mean, square - sum * mean};
}

// As many as leave each thread its registers.
template <class S, int NB>
constexpr int kBlocksOfMultiprocessor = sizeof(S) == 4 ? (NB == 64   ? 3
                                                          : NB == 32 ? 4
                                                                     : 5)
                                                       : (NB == 64 ? 4 : 5);

template <class S, int NB>
__global__ void __launch_bounds__(kThreads, kBlocksOfMultiprocessor<S, NB>)
    child_conv_kernel(const NASFAST_TASK_PARAMETER ConvArgs args, bool statistics) {
  SharedArena arena;
  const ConvShared<S, NB> shared(arena, statistics);
  const ConvTask& task = args.task[entry_of_block(args.task, args.tasks)];
  const TaskShape& s = args.shape[task.shape];
  const int groups = (s.out_ld + NB - 1) / NB, local = static_cast<int>(blockIdx.x) - task.block;
  const int run = local / groups, group = local - run * groups, n0 = group * NB;
  const int pixels = args.N * s.h * s.w, tiles = (pixels + kConvPixels - 1) / kConvPixels;
  const int each = (tiles + s.runs - 1) / s.runs, end = min((run + 1) * each, tiles);
  Moments moments{};
  for (int tile = run * each; tile < end; ++tile) {
    const int pixel = tile * kConvPixels;
    TileProduct<S, NB> product;
    multiply(task, s, pixel, pixels, n0, shared, product);
    emit(task, s, pixel, pixels, n0, statistics, shared, product);
    if (!statistics) continue;
    __syncthreads();
    const Moments m = tile_moments<NB>(min(kConvPixels, pixels - pixel), shared.y, shared.scratch);
    moments = tile == run * each ? m : merged(moments, m);
  }
  if (!statistics || !task.statistics.counters) return;
  const int c = n0 + static_cast<int>(threadIdx.x);
  if (threadIdx.x < NB && c < s.out_ld)
    store_moments(task.statistics.partial + static_cast<int64_t>(run) * kMomentRows * s.out_ld, s.out_ld, c, moments);
  finish_norm<NB, kThreads>(task.statistics, s, group, shared.sums);
}

template <class S, int NB>
void launch_width(const ConvArgs& args, bool statistics, int64_t blocks, cudaStream_t stream) {
  const char* name = "child_conv";
  launch({name, make_grid(name, blocks), dim3(kThreads), ConvShared<S, NB>::bytes(statistics), stream},
         child_conv_kernel<S, NB>, args, statistics);
}

}  // namespace

template <class S>
void launch_conv(const ConvArgs& args, int width, bool statistics, int64_t blocks, cudaStream_t stream) {
  if (width == 16) return launch_width<S, 16>(args, statistics, blocks, stream);
  if (width == 32) return launch_width<S, 32>(args, statistics, blocks, stream);
  launch_width<S, 64>(args, statistics, blocks, stream);
}

template void launch_conv<float>(const ConvArgs&, int, bool, int64_t, cudaStream_t);
template void launch_conv<bf16_t>(const ConvArgs&, int, bool, int64_t, cudaStream_t);
template void launch_conv<half_t>(const ConvArgs&, int, bool, int64_t, cudaStream_t);

}  // namespace nasfast::child_eval
