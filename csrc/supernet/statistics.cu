// What BatchNorm sums, forward and backward, and what follows from the sums.
//
//   moments    mean and sum of squared deviations of every channel of a run of pixels, in two passes over the run
//   norm_sums  sum g and sum g*(y - mean) of a run, g masked by the activation behind the normalisation
//   norms      the runs of all members of a normalisation joined: mean, variance, scale and shift (Chan, Golub,
//   LeVeque,
//              1979); backward a, b, c of dy = a*g + b*(y - mean) + c, and the gradients of gamma and beta
//   block      reductions: 128 threads, a run of pixels x 32 channels; norms: 128 threads, 16 channels x 8 parts
//   sums       float32 within a thread, float64 between threads, runs and members, in a fixed order
#include "read.cuh"

namespace nasfast::supernet {
namespace {

constexpr int kReducePacks = kReduceChannels / kPack;
constexpr int kNormParts = 8;

// Lays the threads of a block out over pixels and packs of channels.
struct ReduceLayout {
  int packs, lanes, pack, lane, c, first, last;
  __device__ __forceinline__ ReduceLayout(const ReduceTask& task, int run, int c0) {
    packs = min(kReducePacks, (task.ld - c0) / kPack);
    lanes = kReduceThreads / packs;
    pack = static_cast<int>(threadIdx.x) % packs;
    lane = static_cast<int>(threadIdx.x) / packs;
    c = c0 + pack * kPack;
    first = run * task.run_pixels;
    last = min(first + task.run_pixels, task.pixels);
  }
  __device__ __forceinline__ bool active() const { return lane < lanes; }
};

// The sum over lanes of every channel, in their order; thread k < packs*4 gets channel k's. Begins with a barrier.
__device__ __forceinline__ double sum_lanes(const ReduceLayout& at, const float (&v)[kPack],
                                            const Shared<float>& scratch) {
  const int width = at.packs * kPack;
  __syncthreads();
  if (at.active()) {
#pragma unroll
    for (int i = 0; i < kPack; ++i) scratch[at.lane * width + at.pack * kPack + i] = v[i];
  }
  __syncthreads();
  double sum = 0;
  if (static_cast<int>(threadIdx.x) < width)
    for (int lane = 0; lane < at.lanes; ++lane) sum += static_cast<double>(scratch[lane * width + threadIdx.x]);
  return sum;
}

__device__ __forceinline__ void store_sums(const ReduceTask& task, const ReduceLayout& at, int run, int c0,
                                           double first, double second) {
  if (static_cast<int>(threadIdx.x) >= at.packs * kPack) return;
  double* to = task.partial + static_cast<int64_t>(run) * 2 * task.ld + c0 + threadIdx.x;
  gstore(to, first);
  gstore(to + task.ld, second);
}

__global__ void __launch_bounds__(kReduceThreads) supernet_moments_kernel(Table<ReduceTask> table) {
  SharedArena arena;
  const Shared<float> scratch = arena.take<float>(kReduceThreads * kPack);
  const Shared<float> centres = arena.take<float>(kReduceChannels);
  const ReduceTask task = task_of_block(table);
  const int tile = static_cast<int>(blockIdx.x) - task.block;
  const int columns = (task.ld + kReduceChannels - 1) / kReduceChannels, run = tile / columns;
  const int c0 = tile % columns * kReduceChannels;
  const ReduceLayout at(task, run, c0);
  const auto each = [&](const auto& f) {
    if (!at.active()) return;
    for (int p = at.first + at.lane; p < at.last; p += at.lanes) {
      float v[kPack];
      load_pack(task.y + static_cast<int64_t>(p) * task.ld + at.c, v);
      f(v);
    }
  };
  float sum[kPack] = {};
  each([&](const float (&v)[kPack]) {
#pragma unroll
    for (int i = 0; i < kPack; ++i) sum[i] += v[i];
  });
  const double count = at.last - at.first, mean = sum_lanes(at, sum, scratch) / count;
  if (static_cast<int>(threadIdx.x) < at.packs * kPack) centres[threadIdx.x] = static_cast<float>(mean);
  __syncthreads();
  float centre[kPack], square[kPack] = {};
#pragma unroll
  for (int i = 0; i < kPack; ++i) centre[i] = centres[at.pack * kPack + i];
  each([&](const float (&v)[kPack]) {
#pragma unroll
    for (int i = 0; i < kPack; ++i) square[i] += (v[i] - centre[i]) * (v[i] - centre[i]);
  });
  const double squares = sum_lanes(at, square, scratch);
  const double off = mean - static_cast<double>(static_cast<float>(mean));
  store_sums(task, at, run, c0, mean, squares - count * off * off);
}

__global__ void __launch_bounds__(kReduceThreads) supernet_norm_sums_kernel(Table<ReduceTask> table) {
  SharedArena arena;
  const Shared<float> scratch = arena.take<float>(kReduceThreads * kPack);
  const ReduceTask task = task_of_block(table);
  const int tile = static_cast<int>(blockIdx.x) - task.block;
  const int columns = (task.ld + kReduceChannels - 1) / kReduceChannels, run = tile / columns;
  const int c0 = tile % columns * kReduceChannels;
  const ReduceLayout at(task, run, c0);
  float sum[kPack] = {}, dot[kPack] = {};
  if (at.active()) {
    float scale[kPack], shift[kPack], mean[kPack];
    load_pack(task.rows + at.c, scale);
    load_pack(task.rows + task.ld + at.c, shift);
    load_pack(task.rows + 2 * task.ld + at.c, mean);
    for (int p = at.first + at.lane; p < at.last; p += at.lanes) {
      const int64_t from = static_cast<int64_t>(p) * task.ld + at.c;
      float g[kPack], y[kPack];
      load_pack(task.g + from, g);
      load_pack(task.y + from, y);
#pragma unroll
      for (int i = 0; i < kPack; ++i) {
        const float passed = closed(y[i] * scale[i] + shift[i], task.act) ? 0.0f : g[i];
        sum[i] += passed;
        dot[i] += passed * (y[i] - mean[i]);
      }
    }
  }
  const double first = sum_lanes(at, sum, scratch), second = sum_lanes(at, dot, scratch);
  store_sums(task, at, run, c0, first, second);
}

// norms

struct Joined {
  double count, first, second;  // moments: mean and squares; sums: two sums
};

template <bool GRADIENT>
__device__ __forceinline__ void join(Joined& a, const Joined& b) {
  if constexpr (GRADIENT) {
    a.first += b.first;
    a.second += b.second;
  } else {
    if (b.count == 0) return;
    const double total = a.count + b.count, share = b.count * reciprocal(total), delta = b.first - a.first;
    a.first += delta * share;
    a.second += b.second + delta * delta * a.count * share;
    a.count = total;
  }
}

// All runs of all members of a channel: each part takes its share of every member's runs, then parts are joined.
template <bool GRADIENT>
__device__ __forceinline__ Joined join_members(const NormTask& task, const Partial* partials, int channel, int part,
                                               int c, const Shared<double>& scratch) {
  Joined sum = {0, 0, 0};
  for (int m = 0; c < task.ld && m < task.members; ++m) {
    const Partial partial = load_struct(partials + task.first + m);
    for (int run = part; run < partial.runs; run += kNormParts) {
      const double* at = partial.sums + static_cast<int64_t>(run) * 2 * task.ld + c;
      const int pixels = min(partial.run_pixels, partial.pixels - run * partial.run_pixels);
      join<GRADIENT>(sum, {static_cast<double>(pixels), gload(at), gload(at + task.ld)});
    }
  }
  const int own = 3 * (part * kNormChannels + channel);
  scratch[own] = sum.count;
  scratch[own + 1] = sum.first;
  scratch[own + 2] = sum.second;
  __syncthreads();
  Joined total = {0, 0, 0};
  for (int other = 0; part == 0 && other < kNormParts; ++other) {
    const int from = 3 * (other * kNormChannels + channel);
    join<GRADIENT>(total, {scratch[from], scratch[from + 1], scratch[from + 2]});
  }
  return total;
}

__device__ __forceinline__ double variance_of(const NormTask& task, int c) {
  return task.kind == NormKind::kRunning ? static_cast<double>(gload(task.running_var + c * task.var_stride))
                                         : gload(task.stats + task.channels + c);
}

__device__ __forceinline__ double mean_of(const NormTask& task, int c) {
  return task.kind == NormKind::kRunning ? static_cast<double>(gload(task.running_mean + c * task.mean_stride))
                                         : gload(task.stats + c);
}

__device__ __forceinline__ void store_rows(const NormTask& task, int c, double mean, double variance) {
  float scale = 0, shift = 0;
  const bool real = c < task.channels;
  if (real && task.kind == NormKind::kBias) {
    scale = 1;
    shift = gload(task.beta + c * task.beta_stride);
  } else if (real) {
    const double exact = static_cast<double>(gload(task.gamma + c * task.gamma_stride)) / sqrt(variance + task.eps);
    scale = static_cast<float>(exact);
    shift = static_cast<float>(static_cast<double>(gload(task.beta + c * task.beta_stride)) - mean * exact);
  }
  gstore(task.rows + c, scale);
  gstore(task.rows + task.ld + c, shift);
  gstore(task.rows + 2 * task.ld + c, real ? static_cast<float>(mean) : 0.0f);
}

__device__ __forceinline__ void store_gradients(const NormTask& task, int c, const Joined& sums) {
  double a = 0, b = 0, shift = 0, dot = 0;
  const bool real = c < task.channels;
  if (real && task.kind == NormKind::kBias) {
    a = 1;
  } else if (real) {
    const double mean = mean_of(task, c), off = mean - static_cast<double>(static_cast<float>(mean));
    const double rstd = 1.0 / sqrt(variance_of(task, c) + task.eps);
    dot = rstd * (sums.second - off * sums.first);  // sum g * the normalised value
    a = static_cast<double>(gload(task.gamma + c * task.gamma_stride)) * rstd;
    if (task.kind == NormKind::kStatistics) {
      b = -a * rstd * dot / task.count;
      shift = -a * sums.first / task.count - b * off;
    }
  }
  gstore(task.coefficients + c, static_cast<float>(a));
  gstore(task.coefficients + task.ld + c, static_cast<float>(b));
  gstore(task.coefficients + 2 * task.ld + c, static_cast<float>(shift));
  gstore(task.dgamma + c, static_cast<float>(dot));
  gstore(task.dbeta + c, real ? static_cast<float>(sums.first) : 0.0f);
}

template <bool GRADIENT>
__global__ void __launch_bounds__(kNormChannels* kNormParts)
    supernet_norms_kernel(Table<NormTask> table, const Partial* partials) {
  SharedArena arena;
  const Shared<double> scratch = arena.take<double>(3 * kNormChannels * kNormParts);
  const NormTask task = task_of_block(table);
  const int channel = static_cast<int>(threadIdx.x) % kNormChannels;
  const int part = static_cast<int>(threadIdx.x) / kNormChannels;
  const int c = (static_cast<int>(blockIdx.x) - task.block) * kNormChannels + channel;
  Joined sums = join_members<GRADIENT>(task, partials, channel, part, c, scratch);
  if (part != 0 || c >= task.ld) return;
  if constexpr (GRADIENT) {
    store_gradients(task, c, sums);
  } else {
    double mean = 0, variance = 0;
    if (task.kind == NormKind::kBatch) {
      mean = sums.first;
      variance = sums.second / sums.count;
      if (c < task.channels) {
        gstore(task.stats + c, mean);
        gstore(task.stats + task.channels + c, variance);
      }
    } else if (task.kind != NormKind::kBias && c < task.channels) {
      mean = mean_of(task, c);
      variance = variance_of(task, c);
    }
    store_rows(task, c, mean, variance);
  }
}

}  // namespace

void launch_moments(const Table<ReduceTask>& table, int64_t blocks, cudaStream_t stream) {
  const char* name = "supernet_moments";
  launch({name, make_grid(name, blocks), dim3(kReduceThreads),
          shared_bytes<float>(kReduceThreads * kPack) + shared_bytes<float>(kReduceChannels), stream},
         supernet_moments_kernel, table);
}

void launch_norm_sums(const Table<ReduceTask>& table, int64_t blocks, cudaStream_t stream) {
  const char* name = "supernet_norm_sums";
  launch({name, make_grid(name, blocks), dim3(kReduceThreads), shared_bytes<float>(kReduceThreads * kPack), stream},
         supernet_norm_sums_kernel, table);
}

void launch_norms(const Table<NormTask>& table, const Partial* partials, bool gradient, int64_t blocks,
                  cudaStream_t stream) {
  const char* name = gradient ? "supernet_norms_grad" : "supernet_norms";
  launch({name, make_grid(name, blocks), dim3(kNormChannels * kNormParts),
          shared_bytes<double>(3 * kNormChannels * kNormParts), stream},
         gradient ? supernet_norms_kernel<true> : supernet_norms_kernel<false>, table, partials);
}

}  // namespace nasfast::supernet
