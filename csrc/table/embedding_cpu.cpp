#include "embedding_cpu.h"

#include <omp.h>

#include <ATen/Parallel.h>

#include <algorithm>
#include <atomic>

#include "../aten/buffer_cache.h"
#include "table_kernels.h"

namespace nasfast::table {
namespace {

constexpr int64_t kEncodeRows = 64;
constexpr int64_t kAheadRows = 4;    // rows of the table lie far apart, and are asked for so long before
constexpr int64_t kFewestRows = 32;  // for which the forward makes a table

template <class A>
constexpr at::ScalarType kType = std::is_same_v<A, double> ? at::kDouble : at::kFloat;

int64_t padded(int64_t elements) { return ceil_div(elements, kChunk) * kChunk; }

// Scratch of each thread, in whole cache lines. Not of the buffer cache, which keeps no more than was in use at once:
// what forward and backward want at different times would drive the outputs out.
template <class A>
class Scratch {
 public:
  Scratch(int threads, int64_t elements)
      : elements_(padded(elements)), storage_(at::empty({threads * elements_}, kType<A>)) {}
  A* of(int thread) const { return storage_.template data_ptr<A>() + thread * elements_; }

 private:
  int64_t elements_;
  at::Tensor storage_;
};

// f(task, thread) for each, shared out among threads.
template <class F>
void each_task(int64_t tasks, int threads, const F& f) {
  if (threads <= 1 || tasks <= 1) {
    for (int64_t i = 0; i < tasks; ++i) f(i, 0);
    return;
  }
#pragma omp parallel for num_threads(static_cast<int>(std::min<int64_t>(threads, tasks))) schedule(dynamic, 1)
  for (int64_t i = 0; i < tasks; ++i) f(i, omp_get_thread_num());
}

Features features_of(const Layout& layout, const Block& block) {
  return {block.count, layout.offsets[block.first], layout.increments.data() + block.first,
          layout.offsets.data() + block.first};
}

// The rows of a call, looked up once for all lanes.
template <class A>
struct Encoded {
  at::Tensor at, fraction;  // [G or 1, B, F]
  int64_t group;            // elements from one group to the next

  Codes<A> codes(const Call& call, int64_t g, int64_t first_row, int64_t rows, int32_t first_feature) const {
    const int64_t F = call.layout.features(), offset = g * group + first_row * F + first_feature;
    return {at.const_data_ptr<int32_t>() + offset, fraction.const_data_ptr<A>() + offset, F, static_cast<int>(rows)};
  }
};

[[noreturn]] void report_bin(const Call& call, int64_t row) {
  const int64_t F = call.layout.features();
  const int16_t* bins = call.bins.const_data_ptr<int16_t>() + row * F;
  for (int64_t f = 0; f < F; ++f) {
    const int32_t rows = call.layout.offsets[f + 1] - call.layout.offsets[f];
    TORCH_CHECK_INDEX(bins[f] >= 0 && bins[f] < rows, "table_embedding: bins must be 0 to ", rows - 1, " for feature ",
                      f, ", got ", bins[f], " in row ", row);
  }
  TORCH_INTERNAL_ASSERT(false, "no bin of row ", row, " is out of range");
}

void check_rows(const Call& call) {
  if (!call.rows) return;
  const int64_t* rows = call.rows->const_data_ptr<int64_t>();
  const int64_t N = call.bins.size(0);
  for (int64_t i = 0; i < call.rows->numel(); ++i)
    TORCH_CHECK_INDEX(rows[i] >= 0 && rows[i] < N, "table_embedding: rows must be 0 to ", N - 1,
                      ", rows of the table, got ", rows[i]);
}

template <class T>
void fetch(const T* p, int64_t count) {
  for (int64_t i = 0; i < count; i += 64 / sizeof(T)) __builtin_prefetch(p + i);
}

template <class A>
Encoded<A> encode(const Call& call, const Kernels<A>& k, int threads) {
  check_rows(call);
  const int64_t F = call.layout.features(), copies = call.shared_rows() ? 1 : call.groups(), B = call.batch();
  Encoded<A> out{at::empty({copies, B, F}, at::kInt), at::empty({copies, B, F}, kType<A>), copies > 1 ? B * F : 0};
  const int64_t* rows = call.rows ? call.rows->const_data_ptr<int64_t>() : nullptr;
  const int16_t* bins = call.bins.const_data_ptr<int16_t>();
  const Features features = features_of(call.layout, {0, call.layout.features()});
  int32_t* at = out.at.template data_ptr<int32_t>();
  A* fraction = out.fraction.template data_ptr<A>();
  std::atomic<int64_t> outside{copies * B};  // the first such, whatever thread finds it
  const auto run = [&](int64_t i, auto encode_row, const auto* fractions) {
    const int64_t row = rows ? rows[i] : i;
    if (rows && i + kAheadRows < copies * B) {
      const int64_t later = rows[i + kAheadRows] * F;
      fetch(bins + later, F);
      fetch(fractions + later, F);
    }
    if (encode_row(features, bins + row * F, fractions + row * F, at + i * F, fraction + i * F)) return;
    for (int64_t seen = outside; i < seen && !outside.compare_exchange_weak(seen, i);) {
    }
  };
  each_task(ceil_div(copies * B, kEncodeRows), threads, [&](int64_t task, int) {
    const int64_t end = std::min((task + 1) * kEncodeRows, copies * B);
    for (int64_t i = task * kEncodeRows; i < end; ++i)
      if (call.fractions.scalar_type() == at::kDouble)
        run(i, k.encode_double, call.fractions.const_data_ptr<double>());
      else
        run(i, k.encode_float, call.fractions.const_data_ptr<float>());
  });
  if (outside < copies * B) report_bin(call, rows ? rows[outside] : outside.load());
  return out;
}

template <class A>
Lanes<A> lanes_of(A* group, int64_t width, int64_t row, int64_t chunk) {
  const int64_t first = chunk * kChunk;
  return {group + row * width + first, width, static_cast<int>(std::min<int64_t>(kChunk, width - first))};
}

// [G, F, M], as the forward reads them.
template <class A>
at::Tensor transposed(const at::Tensor& scales) {
  const int64_t G = scales.size(0), M = scales.size(1), F = scales.size(2);
  at::Tensor out = at::empty({G, F, M}, kType<A>);
  const A* from = scales.const_data_ptr<A>();
  A* to = out.template data_ptr<A>();
  for (int64_t g = 0; g < G; ++g, from += M * F, to += M * F)
    for (int64_t f = 0; f < F; ++f)
      for (int64_t m = 0; m < M; ++m) to[f * M + m] = from[m * F + f];
  return out;
}

}  // namespace

template <class A>
at::Tensor forward_cpu(const Call& call) {
  const Kernels<A>& k = kernels<A>();
  const int threads = at::get_num_threads();
  const Encoded<A> encoded = encode(call, k, threads);
  const int64_t G = call.groups(), B = call.batch(), M = call.members(), D = call.width();
  at::Tensor out = cached_empty({G, B, M, D}, kType<A>);
  if (out.numel() == 0) return out;
  const at::Tensor scales = transposed<A>(call.scales);
  const Layout& layout = call.layout;
  const std::vector<Block> blocks = cached_blocks(layout);
  const int64_t F = layout.features(), R = layout.rows(), chunks = ceil_div(D, kChunk);
  int64_t step = std::min(batch_rows(M), B);
  step = ceil_div(step, parts_for(G * chunks * ceil_div(B, step), threads, std::max<int64_t>(step / kFewestRows, 1)));
  const int64_t pieces = ceil_div(B, step);
  const int64_t sums = step * M * kChunk;
  const Scratch<A> scratch(threads, sums + forward_scratch(most_rows(layout, blocks), most_features(blocks)));
  each_task(G * pieces * chunks, threads, [&](int64_t task, int thread) {
    const int64_t chunk = task % chunks, first = task / chunks % pieces * step, g = task / chunks / pieces;
    const int64_t rows = std::min(step, B - first);
    for (const Block& b : blocks) {
      const Features features = features_of(layout, b);
      k.forward({features, encoded.codes(call, g, first, rows, b.first),
                 lanes_of(call.weights.const_data_ptr<A>() + g * R * D, D, features.first_row, chunk),
                 scales.const_data_ptr<A>() + (g * F + b.first) * M, static_cast<int>(M), b.first == 0,
                 b.first + b.count == F, scratch.of(thread), scratch.of(thread) + sums,
                 lanes_of(out.template data_ptr<A>() + (g * B + first) * M * D, D, 0, chunk), M * D});
    }
  });
  return out;
}

template <class A>
std::tuple<at::Tensor, at::Tensor> backward_cpu(const Call& call, const at::Tensor& grad, bool want_weights,
                                                bool want_scales) {
  const Kernels<A>& k = kernels<A>();
  const int threads = at::get_num_threads();
  const int64_t G = call.groups(), B = call.batch(), M = call.members(), D = call.width();
  const Layout& layout = call.layout;
  const int64_t F = layout.features(), R = layout.rows(), chunks = ceil_div(D, kChunk);
  const auto options = at::TensorOptions().dtype(kType<A>);
  if (grad.numel() == 0)
    return {want_weights ? at::zeros({G, R, D}, options) : at::empty({0}, options),
            want_scales ? at::zeros({G, M, F}, options) : at::empty({0}, options)};
  const Encoded<A> encoded = encode(call, k, threads);
  at::Tensor grad_weights = want_weights ? cached_empty({G, R, D}, kType<A>) : at::empty({0}, options);
  at::Tensor partial = at::zeros({want_scales ? G : 0, chunks, M, F}, options.dtype(at::kDouble));
  const std::vector<Block> blocks = equal_blocks(layout.features(), kFeatures<A>);
  const auto count = static_cast<int64_t>(blocks.size());
  const int64_t parts = parts_for(G * chunks, threads, count), step = std::min(batch_rows(M), B);
  const int64_t packed = step * M * kChunk;
  const Scratch<A> scratch(threads, packed + backward_scratch(most_rows(layout, blocks), kFeatures<A>, M));
  each_task(G * chunks * parts, threads, [&](int64_t task, int thread) {
    const int64_t part = task % parts, chunk = task / parts % chunks, g = task / parts / chunks;
    A* mine = scratch.of(thread);
    for (int64_t first = 0; first < B; first += step) {
      const int64_t rows = std::min(step, B - first);
      const A* from = grad.const_data_ptr<A>() + (g * B + first) * M * D;
      k.pack(lanes_of(from, D, 0, chunk), rows * M, scratch.of(thread));
      for (int64_t i = part * count / parts; i < (part + 1) * count / parts; ++i) {
        const Block& b = blocks[i];
        const Features features = features_of(layout, b);
        const int32_t row = features.first_row;
        Lanes<A> to = {nullptr, 0, 0};
        if (want_weights) to = lanes_of(grad_weights.template data_ptr<A>() + g * R * D, D, row, chunk);
        k.backward(
            {features, encoded.codes(call, g, first, rows, b.first),
             lanes_of(call.weights.const_data_ptr<A>() + g * R * D, D, row, chunk),
             call.scales.const_data_ptr<A>() + g * M * F + b.first, F, static_cast<int>(M), mine, first > 0,
             mine + packed, to,
             want_scales ? partial.template data_ptr<double>() + (g * chunks + chunk) * M * F + b.first : nullptr});
      }
    }
  });
  if (!want_scales) return {grad_weights, at::empty({0}, options)};
  at::Tensor grad_scales = at::empty({G, M, F}, options);
  const double* from = partial.const_data_ptr<double>();
  A* to = grad_scales.template data_ptr<A>();
  for (int64_t g = 0; g < G; ++g)
    for (int64_t i = 0; i < M * F; ++i) {
      double total = 0;
      for (int64_t c = 0; c < chunks; ++c) total += from[(g * chunks + c) * M * F + i];
      to[g * M * F + i] = static_cast<A>(total);
    }
  return {grad_weights, grad_scales};
}

template at::Tensor forward_cpu<float>(const Call&);
template at::Tensor forward_cpu<double>(const Call&);
template std::tuple<at::Tensor, at::Tensor> backward_cpu<float>(const Call&, const at::Tensor&, bool, bool);
template std::tuple<at::Tensor, at::Tensor> backward_cpu<double>(const Call&, const at::Tensor&, bool, bool);

}  // namespace nasfast::table
