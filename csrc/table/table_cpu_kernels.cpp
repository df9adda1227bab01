// CPU kernels of the table embedding, one instruction set.
#include "backward_cpu.h"
#include "chunk_cpu.h"

namespace nasfast::NASFAST_ISA {
namespace {

using table::Features;
using table::Forward;

template <class A, class F>
bool encode(const Features& features, const int16_t* bins, const F* fractions, int32_t* __restrict at,
            A* __restrict fraction) {
  const int32_t *increments = features.increments, *offsets = features.offsets;
  int32_t outside = 0;
  for (int f = 0; f < features.count; ++f) {
    const int32_t bin = bins[f], first = offsets[f];
    outside |= bin | (offsets[f + 1] - first - 1 - bin);  // the sign: bin below 0, or above the last
    at[f] = (first + bin) * kPair;
    fraction[f] = bin < increments[f] ? static_cast<A>(fractions[f]) : A(0);
  }
  return outside >= 0;
}

// Members of which the outputs of a chunk are held in registers.
template <class A>
constexpr int kMembers = sizeof(A) == sizeof(float) ? 6 : 3;

// out[m] = sums[m] + sum_f scales[f][m] * values[f]; null sums: zero
template <class A, int MR>
void product(const A* values, int features, const A* scales, ptrdiff_t members, const A* sums, A* out, ptrdiff_t ld) {
  Vec<A> acc[MR][2] = {};
  if (sums)
#pragma GCC unroll 6
    for (int m = 0; m < MR; ++m) {
      acc[m][0] = load(sums + m * kChunk);
      acc[m][1] = load(sums + m * kChunk + kLanes);
    }
  for (int f = 0; f < features; ++f, values += kChunk, scales += members) {
    const Vec<A> low = load(values), high = load(values + kLanes);
#pragma GCC unroll 6
    for (int m = 0; m < MR; ++m) {
      const Vec<A> scale = broadcast<A>(scales[m]);
      acc[m][0] += scale * low;
      acc[m][1] += scale * high;
    }
  }
#pragma GCC unroll 6
  for (int m = 0; m < MR; ++m) {
    store(out + m * ld, acc[m][0]);
    store(out + m * ld + kLanes, acc[m][1]);
  }
}

template <class A>
void pack(const Lanes<const A>& from, int64_t rows, A* to) {
  for (int64_t r = 0; r < rows; ++r, to += kChunk) {
    const A* p = from.p + r * from.ld;
    __builtin_prefetch(p + kAhead * from.ld);
    Vec<A> low, high;
    load_lanes(p, from.lanes, low, high);
    store(to, low);
    store(to + kLanes, high);
  }
}

template <class A>
void unpack(const A* from, int members, const Lanes<A>& to) {
  for (int m = 0; m < members; ++m, from += kChunk)
    store_lanes(to.p + m * to.ld, to.lanes, load(from), load(from + kLanes));
}

template <class A>
void forward(const Forward<A>& a) {
  using Run = void (*)(const A*, int, const A*, ptrdiff_t, const A*, A*, ptrdiff_t);
  constexpr int kMost = kMembers<A>;  // a longer list for float
  static constexpr Run runs[] = {product<A, 1>,           product<A, 2>, product<A, 3>,           product < A,
                                 kMost < 4 ? kMost : 4 >, product < A,   kMost < 5 ? kMost : 5 >, product<A, kMost>};
  A *t = a.scratch, *values = t + static_cast<ptrdiff_t>(a.features.rows()) * kPair;
  make_table(a.features, a.weights, t);
  const int32_t first = a.features.first_row * kPair;
  const int tiles = static_cast<int>(ceil_div(a.members, kMost));
  const bool direct = a.last && a.out.lanes == kChunk;
  for (int r = 0; r < a.codes.rows; ++r) {
    const int32_t* at = a.codes.at + r * a.codes.ld;
    const A* fraction = a.codes.fraction + r * a.codes.ld;
    A* sums = a.sums + static_cast<ptrdiff_t>(r) * a.members * kChunk;
    const Lanes<A> out{a.out.p + r * a.out_row, a.out.ld, a.out.lanes};
    if (a.last) fetch_lanes<1>(out, a.members);
    for (int f = 0; f < a.features.count; ++f) look_up(t + (at[f] - first), fraction[f], values + f * kChunk);
    A* to = direct ? out.p : sums;
    const ptrdiff_t ld = direct ? out.ld : kChunk;
    for (int tile = 0, m = 0; tile < tiles; ++tile) {
      const int size = a.members / tiles + (tile < a.members % tiles);
      runs[size - 1](values, a.features.count, a.scales + m, a.members, a.first ? nullptr : sums + m * kChunk,
                     to + m * ld, ld);
      m += size;
    }
    if (a.last && !direct) unpack<A>(sums, a.members, out);
  }
}

}  // namespace

template <class A>
const table::Kernels<A>& table_kernels() {
  static constexpr table::Kernels<A> table = {
      encode<A, float>, encode<A, double>, forward<A>, backward<A>, pack<A>,
  };
  return table;
}

template const table::Kernels<float>& table_kernels<float>();
template const table::Kernels<double>& table_kernels<double>();

}  // namespace nasfast::NASFAST_ISA
