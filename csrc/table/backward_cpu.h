// Gradients of a block of features: of the values, summed by row of the table, and of the scales.
//
//   gv[f]       = sum_m scales[m][f] * grad[m]
//   base[at]   += gv[f],  slope[at] += fraction * gv[f]
//   gs[m][f]   += grad[m] . value[f]
//
// The value of an interval holds all increments before it, so the gradient of increment i is slope[i] and the bases
// after it.
#pragma once

#include "chunk_cpu.h"

namespace nasfast::NASFAST_ISA::inline table_cpu {

using table::Backward;

// Members beside FR features in registers.
template <class A>
constexpr int tile_members(int features) {
  const int fit = (sizeof(A) == sizeof(float) ? 12 : 6) / features;
  return fit < 4 ? fit : 4;
}

// sums[m][f] += grad[m] * value[f], lane by lane, over rows.
template <class A, int FR, int MR>
NASFAST_INLINE void scale_tile(const A* values, ptrdiff_t values_ld, const A* grad, ptrdiff_t grad_ld, int rows,
                               A* sums) {
  Vec<A> acc[MR][FR];
#pragma GCC unroll 4
  for (int m = 0; m < MR; ++m)
#pragma GCC unroll 6
    for (int f = 0; f < FR; ++f) acc[m][f] = load(sums + (m * FR + f) * kLanes);
  for (int r = 0; r < rows; ++r, values += kChunk, grad += grad_ld)
#pragma GCC unroll 2
    for (int half = 0; half < kChunk; half += kLanes) {
      Vec<A> v[FR];
#pragma GCC unroll 6
      for (int f = 0; f < FR; ++f) v[f] = load(values + f * values_ld + half);
#pragma GCC unroll 4
      for (int m = 0; m < MR; ++m) {
        const Vec<A> g = load(grad + m * kChunk + half);
#pragma GCC unroll 6
        for (int f = 0; f < FR; ++f) acc[m][f] += g * v[f];
      }
    }
#pragma GCC unroll 4
  for (int m = 0; m < MR; ++m)
#pragma GCC unroll 6
    for (int f = 0; f < FR; ++f) store(sums + (m * FR + f) * kLanes, acc[m][f]);
}

template <class A, int FR, int MR>
void scale_tiles(const A* values, ptrdiff_t values_ld, const A* grad, int members, int rows, A* sums) {
  const ptrdiff_t grad_ld = static_cast<ptrdiff_t>(members) * kChunk;
  int m = 0;
  for (; m + MR <= members; m += MR)
    scale_tile<A, FR, MR>(values, values_ld, grad + m * kChunk, grad_ld, rows, sums + m * FR * kLanes);
  for (; m < members; ++m)
    scale_tile<A, FR, 1>(values, values_ld, grad + m * kChunk, grad_ld, rows, sums + m * FR * kLanes);
}

template <class A, int FR>
NASFAST_INLINE void scatter_row(const Backward<A>& b, const A* grad, const int32_t* at, const A* fraction, A* sums) {
  const int32_t first = b.features.first_row * kPair;
  Vec<A> acc[FR][2] = {};
  const A* s = b.scales;
  for (int m = 0; m < b.members; ++m, s += b.scales_ld, grad += kChunk) {
    const Vec<A> low = load(grad), high = load(grad + kLanes);
#pragma GCC unroll 6
    for (int f = 0; f < FR; ++f) {
      const Vec<A> scale = broadcast<A>(s[f]);
      acc[f][0] += scale * low;
      acc[f][1] += scale * high;
    }
  }
#pragma GCC unroll 6
  for (int f = 0; f < FR; ++f) {
    A* pair = sums + (at[f] - first);
    const Vec<A> x = broadcast<A>(fraction[f]);
    store_pair<A>(pair, load(pair) + acc[f][0], load(pair + kLanes) + acc[f][1], load(pair + kChunk) + x * acc[f][0],
                  load(pair + kChunk + kLanes) + x * acc[f][1]);
  }
}

template <class A, int FR>
void run_rows(const Backward<A>& b, const A* t, A* grad_table, A* values, A* sums) {
  const int step = table::backward_rows(b.members);
  const ptrdiff_t values_ld = static_cast<ptrdiff_t>(step) * kChunk, row = static_cast<ptrdiff_t>(b.members) * kChunk;
  const int32_t first = b.features.first_row * kPair;
  for (int start = 0; start < b.codes.rows; start += step) {
    const int rows = start + step < b.codes.rows ? step : b.codes.rows - start;
    const A* grad = b.grad + start * row;
    for (int r = 0; r < rows; ++r) {
      const int32_t* at = b.codes.at + (start + r) * b.codes.ld;
      const A* fraction = b.codes.fraction + (start + r) * b.codes.ld;
      if (b.grad_scales)
#pragma GCC unroll 6
        for (int f = 0; f < FR; ++f) look_up(t + (at[f] - first), fraction[f], values + f * values_ld + r * kChunk);
      if (b.grad_weights.p) scatter_row<A, FR>(b, grad + r * row, at, fraction, grad_table);
    }
    if (b.grad_scales) scale_tiles<A, FR, tile_members<A>(FR)>(values, values_ld, grad, b.members, rows, sums);
  }
}

template <class A>
NASFAST_INLINE void add_lanes(const Lanes<A>& to, ptrdiff_t row, bool add, Vec<A> low, Vec<A> high) {
  A* p = to.p + row * to.ld;
  __builtin_prefetch(p - kAhead * to.ld, 1);  // rows come in descending order
  if (add) {
    Vec<A> old_low, old_high;
    load_lanes<A>(p, to.lanes, old_low, old_high);
    low += old_low;
    high += old_high;
  }
  store_lanes(p, to.lanes, low, high);
}

template <class A>
void finish_weights(const Backward<A>& b, const A* t) {
  const int32_t* offsets = b.features.offsets;
  for (int f = 0; f < b.features.count; ++f) {
    const ptrdiff_t begin = offsets[f] - offsets[0], lookups = begin + b.features.increments[f];
    for (ptrdiff_t r = offsets[f + 1] - offsets[0] - 1; r >= lookups; --r)
      add_lanes(b.grad_weights, r, b.add, load(t + r * kPair), load(t + r * kPair + kLanes));
    Vec<A> after_low = {}, after_high = {};
    for (ptrdiff_t r = lookups - 1; r >= begin; --r) {
      const A* pair = t + r * kPair;
      add_lanes(b.grad_weights, r, b.add, load(pair + kChunk) + after_low, load(pair + kChunk + kLanes) + after_high);
      after_low += load(pair);
      after_high += load(pair + kLanes);
    }
  }
}

template <class A>
void finish_scales(const Backward<A>& b, const A* sums) {
  for (int m = 0; m < b.members; ++m)
    for (int f = 0; f < b.features.count; ++f, sums += kLanes) {
      double total = 0;
      for (int i = 0; i < kLanes; ++i) total += static_cast<double>(sums[i]);
      b.grad_scales[m * b.scales_ld + f] += total;
    }
}

template <class A>
void clear(A* p, ptrdiff_t vectors) {
  for (ptrdiff_t i = 0; i < vectors; ++i) store(p + i * kLanes, Vec<A>{});
}

template <class A>
void backward(const Backward<A>& b) {
  const ptrdiff_t rows = b.features.rows(), count = b.features.count;
  A *t = b.scratch, *grad_table = t + rows * kPair, *values = grad_table + rows * kPair;
  A* sums = values + count * table::backward_rows(b.members) * kChunk;
  if (b.grad_scales) {
    make_table(b.features, b.weights, t);
    clear(sums, b.members * count);
  }
  if (b.grad_weights.p) clear(grad_table, rows * kPair / kLanes);
  using Run = void (*)(const Backward<A>&, const A*, A*, A*, A*);
  constexpr int kMost = table::kFeatures<A>;  // a longer list for float
  static constexpr Run runs[] = {run_rows<A, 1>,          run_rows<A, 2>, run_rows<A, 3>,          run_rows < A,
                                 kMost < 4 ? kMost : 4 >, run_rows < A,   kMost < 5 ? kMost : 5 >, run_rows<A, kMost>};
  runs[count - 1](b, t, grad_table, values, sums);
  if (b.grad_scales) finish_scales(b, sums);
  if (b.grad_weights.p) finish_weights(b, grad_table);
}

}  // namespace nasfast::NASFAST_ISA::inline table_cpu
