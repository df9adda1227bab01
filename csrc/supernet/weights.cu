// Gradients of weights over all groups that computed a unit: one job, whatever their number.
//
//   conv       gw[t][c][o] = sum_q u[q*S + t*D - pad][c] * dy[q][o]     a product whose depth are the pixels
//   depthwise  gw[t][c]    = sum_q u[q*S + t*D - pad][c] * dy[q][c]
//   head       gw[o][c]    = sum_n g[n][o] * pooled[n][c], and sum_n g[n][o] of the bias
//   block      conv: 128 threads, 64 rows (t, c) x 16, 32 or 64 channels o x one chunk of the pixels; depthwise: 128
//              threads, a row of taps x 32 channels x one chunk; head: 256 threads, one element each
//   sums       float32 within a chunk; chunks are cut by shapes alone and added up in order by supernet_params
#include "../core/tile_product.cuh"
#include "read.cuh"

namespace nasfast::supernet {
namespace {

constexpr int kLanesThreads = 128, kLanesPacks = kReduceChannels / kPack, kLanesRows = kLanesThreads / kLanesPacks;

// Pixels [first, last) of the members, one after the other.
struct Chunk {
  int64_t first, last;
  __device__ __forceinline__ Chunk(const WeightTask& task, int chunk) {
    const int64_t all = static_cast<int64_t>(task.members) * task.images * task.window.result_h * task.window.result_w;
    first = static_cast<int64_t>(chunk) * task.chunk_pixels;
    last = first + task.chunk_pixels < all ? first + task.chunk_pixels : all;
  }
};

// A pixel of the result of a member.
struct MemberPixel {
  int member, pixel;  // pixel of the member
  int n, y, x;
  __device__ __forceinline__ MemberPixel(const WeightTask& task, int64_t at) {
    const Window& w = task.window;
    const int area = w.result_h * w.result_w;
    const int of_member = task.images * area;
    member = static_cast<int>(quotient(at, of_member));
    pixel = static_cast<int>(at - static_cast<int64_t>(member) * of_member);
    n = pixel / area;
    const int rest = pixel - n * area;
    y = rest / w.result_w;
    x = rest - y * w.result_w;
  }
};

template <int NB>
__global__ void __launch_bounds__(kProductThreads)
    supernet_conv_weights_kernel(Table<WeightTask> table, const Member* members) {
  using Product = TileProduct<float, NB>;
  constexpr int kEachA = kProductRows * kProductDepth / kPack / kProductThreads;
  constexpr int kAllB = kProductDepth * NB / kPack, kEachB = (kAllB + kProductThreads - 1) / kProductThreads;
  SharedArena arena;
  const Shared<float> a = arena.take<float>(Product::kSizeA), b = arena.take<float>(Product::kSizeB);
  const WeightTask task = task_of_block(table);
  const Window& w = task.window;
  const int depth = w.kernel * w.kernel * w.source_ld;
  const int columns = (w.result_ld + NB - 1) / NB, rows = (depth + kProductRows - 1) / kProductRows;
  const int tile = static_cast<int>(blockIdx.x) - task.block, n0 = tile % columns * NB;
  const int row0 = tile / columns % rows * kProductRows, chunk = tile / columns / rows;
  const Chunk range(task, chunk);
  Product product;
  for (int64_t p0 = range.first; p0 < range.last; p0 += kProductDepth) {
    __syncthreads();
#pragma unroll
    for (int j = 0; j < kEachA; ++j) {
      const int i = static_cast<int>(threadIdx.x) + j * kProductThreads;
      const int row = i % (kProductRows / kPack) * kPack, k = i / (kProductRows / kPack);
      float v[kPack] = {};
      if (p0 + k < range.last && row0 + row < depth) {
        const MemberPixel at(task, p0 + k);
        const int tap = (row0 + row) / w.source_ld, c = row0 + row - tap * w.source_ld;
        const int y = tap_source<false>(w, at.y, tap / w.kernel, w.source_h);
        const int x = tap_source<false>(w, at.x, tap % w.kernel, w.source_w);
        if (y >= 0 && x >= 0)
          read_pixel<float>(load_struct(&members[task.first + at.member].x),
                            (static_cast<int64_t>(at.n) * w.source_h + y) * w.source_w + x, w.source_ld, c, v);
      }
#pragma unroll
      for (int q = 0; q < kPack; ++q) a[Product::at_a(row + q, k)] = v[q];
    }
#pragma unroll
    for (int j = 0; j < kEachB; ++j) {
      const int i = static_cast<int>(threadIdx.x) + j * kProductThreads;
      const int n = i % (NB / kPack) * kPack, k = i / (NB / kPack);
      if (i >= kAllB) continue;
      Pack<float, kPack> v = {};
      if (p0 + k < range.last && n0 + n < w.result_ld) {
        const MemberPixel at(task, p0 + k);
        const float* dy = gload(&members[task.first + at.member].dy);
        v = gload_vec<float, kPack>(dy + static_cast<int64_t>(at.pixel) * w.result_ld + n0 + n);
      }
      b.store_vec(Product::at_b(k, n), v);
    }
    __syncthreads();
    product.step(a, b);
  }
  float* out = task.out + static_cast<int64_t>(chunk) * depth * w.result_ld;
  product.emit([&](int row, int column, const Pack<float, kPack>& sums) {
    if (row0 + row >= depth || n0 + column >= w.result_ld) return;
    gstore_vec(out + static_cast<int64_t>(row0 + row) * w.result_ld + n0 + column, sums);
  });
}

template <int KERNEL>
__global__ void __launch_bounds__(kLanesThreads)
    supernet_depthwise_weights_kernel(Table<WeightTask> table, const Member* members) {
  SharedArena arena;
  const Shared<float> scratch = arena.take<float>(kLanesThreads * KERNEL * kPack);
  const WeightTask task = task_of_block(table);
  const Window& w = task.window;
  const int ld = w.result_ld, columns = (ld + kReduceChannels - 1) / kReduceChannels;
  const int tile = static_cast<int>(blockIdx.x) - task.block, c0 = tile % columns * kReduceChannels;
  const int ky = tile / columns % KERNEL, chunk = tile / columns / KERNEL;
  const int pack = static_cast<int>(threadIdx.x) % kLanesPacks, row = static_cast<int>(threadIdx.x) / kLanesPacks;
  const int c = c0 + pack * kPack;
  const Chunk range(task, chunk);
  float sum[KERNEL][kPack] = {};
  for (int64_t p = range.first + row; c < ld && p < range.last; p += kLanesRows) {
    const MemberPixel at(task, p);
    const int y = tap_source<false>(w, at.y, ky, w.source_h);
    if (y < 0) continue;
    const Member member = load_struct(members + task.first + at.member);
    float g[kPack];
    load_pack(member.dy + static_cast<int64_t>(at.pixel) * ld + c, g);
#pragma unroll
    for (int kx = 0; kx < KERNEL; ++kx) {
      const int x = tap_source<false>(w, at.x, kx, w.source_w);
      if (x < 0) continue;
      float u[kPack];
      read_pixel<float>(member.x, (static_cast<int64_t>(at.n) * w.source_h + y) * w.source_w + x, ld, c, u);
#pragma unroll
      for (int i = 0; i < kPack; ++i) sum[kx][i] += u[i] * g[i];
    }
  }
  constexpr int kWidth = KERNEL * kReduceChannels;  // [tap][channel] of a row of threads
#pragma unroll
  for (int kx = 0; kx < KERNEL; ++kx)
#pragma unroll
    for (int i = 0; i < kPack; ++i) scratch[row * kWidth + kx * kReduceChannels + pack * kPack + i] = sum[kx][i];
  __syncthreads();
  float* out = task.out + static_cast<int64_t>(chunk * KERNEL * KERNEL + ky * KERNEL) * ld;
  for (int i = threadIdx.x; i < kWidth; i += kLanesThreads) {
    const int channel = c0 + i % kReduceChannels;
    float total = 0;
    for (int r = 0; r < kLanesRows; ++r) total += scratch[r * kWidth + i];
    if (channel < ld) gstore(out + static_cast<int64_t>(i / kReduceChannels) * ld + channel, total);
  }
}

__global__ void __launch_bounds__(kFlatThreads)
    supernet_head_weights_kernel(Table<WeightTask> table, const Member* members) {
  const WeightTask task = task_of_block(table);
  const int ld = task.window.source_ld, classes = task.window.result_ld;
  const int i = (static_cast<int>(blockIdx.x) - task.block) * kFlatThreads + static_cast<int>(threadIdx.x);
  if (i >= classes * (ld + 1)) return;
  const bool bias = i >= classes * ld;
  const int o = bias ? i - classes * ld : i / ld, c = bias ? 0 : i % ld;
  float sum = 0;
  for (int m = 0; m < task.members; ++m) {
    const Member member = load_struct(members + task.first + m);
    const float* pooled = static_cast<const float*>(member.x.data);
    for (int n = 0; n < task.images; ++n) {
      const float g = gload(member.dy + static_cast<int64_t>(n) * classes + o);
      sum += bias ? g : g * gload(pooled + static_cast<int64_t>(n) * ld + c);
    }
  }
  gstore(task.out + i, sum);
}

template <int NB>
void launch_width(const Table<WeightTask>& table, const Member* members, int64_t blocks, cudaStream_t stream) {
  using Product = TileProduct<float, NB>;
  const char* name = "supernet_conv_weights";
  launch({name, make_grid(name, blocks), dim3(kProductThreads),
          shared_bytes<float>(Product::kSizeA) + shared_bytes<float>(Product::kSizeB), stream},
         supernet_conv_weights_kernel<NB>, table, members);
}

template <int KERNEL>
void launch_kernel(const Table<WeightTask>& table, const Member* members, int64_t blocks, cudaStream_t stream) {
  const char* name = "supernet_depthwise_weights";
  launch(
      {name, make_grid(name, blocks), dim3(kLanesThreads), shared_bytes<float>(kLanesThreads * KERNEL * kPack), stream},
      supernet_depthwise_weights_kernel<KERNEL>, table, members);
}

}  // namespace

void launch_conv_weights(const Table<WeightTask>& table, const Member* members, int width, int64_t blocks,
                         cudaStream_t stream) {
  const auto run = width == 16 ? launch_width<16> : width == 32 ? launch_width<32> : launch_width<64>;
  run(table, members, blocks, stream);
}

void launch_depthwise_weights(const Table<WeightTask>& table, const Member* members, int kernel, int64_t blocks,
                              cudaStream_t stream) {
  const auto run = kernel == 3 ? launch_kernel<3> : kernel == 5 ? launch_kernel<5> : launch_kernel<7>;
  run(table, members, blocks, stream);
}

void launch_head_weights(const Table<WeightTask>& table, const Member* members, int64_t blocks, cudaStream_t stream) {
  const char* name = "supernet_head_weights";
  launch({name, make_grid(name, blocks), dim3(kFlatThreads), 0, stream}, supernet_head_weights_kernel, table, members);
}

}  // namespace nasfast::supernet
