// CPU kernels of the table embedding, one instruction set.
#include "backward_cpu.h"
#include "chunk_cpu.h"

namespace nasfast::NASFAST_ISA {
namespace {

using table::Features;
using table::Forward;

template <class A, class F>
bool encode(const Features& features, const int16_t* bins, const F* fractions, int32_t* at, A* fraction) {
  uint32_t outside = 0;
  for (int f = 0; f < features.count; ++f) {
    const int32_t bin = bins[f], first = features.offsets[f];
    outside |= static_cast<uint32_t>(bin) >= static_cast<uint32_t>(features.offsets[f + 1] - first);
    at[f] = (first + bin) * kPair;
    fraction[f] = bin < features.increments[f] ? static_cast<A>(fractions[f]) : A(0);
  }
  return !outside;
}

// Members of which the outputs of a chunk are held in registers.
template <class A>
constexpr int kMembers = sizeof(A) == sizeof(float) ? 6 : 3;

// out[m] (+)= sum_f scales[f][m] * values[f]
template <class A, int MR>
void product(const A* values, int features, const A* scales, ptrdiff_t members, bool add, A* out, ptrdiff_t ld) {
  Vec<A> acc[MR][2] = {};
  if (add)
#pragma GCC unroll 6
    for (int m = 0; m < MR; ++m) {
      acc[m][0] = load(out + m * ld);
      acc[m][1] = load(out + m * ld + kLanes);
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

// `members` rows of a chunk to whole ones side by side.
template <class A>
void pack(const Lanes<const A>& from, int members, A* to) {
  for (int m = 0; m < members; ++m, to += kChunk) {
    Vec<A> low, high;
    load_lanes(from.p + m * from.ld, from.lanes, low, high);
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
  using Run = void (*)(const A*, int, const A*, ptrdiff_t, bool, A*, ptrdiff_t);
  constexpr int kMost = kMembers<A>;  // a longer list for float
  static constexpr Run runs[] = {product<A, 1>,           product<A, 2>, product<A, 3>,           product < A,
                                 kMost < 4 ? kMost : 4 >, product < A,   kMost < 5 ? kMost : 5 >, product<A, kMost>};
  A *t = a.scratch, *values = t + static_cast<ptrdiff_t>(a.features.rows()) * kPair;
  A* part = values + static_cast<ptrdiff_t>(a.features.count) * kChunk;
  make_table(a.features, a.weights, t);
  const int32_t first = a.features.first_row * kPair;
  const int tiles = static_cast<int>(ceil_div(a.members, kMost));
  const bool whole = a.out.lanes == kChunk;
  for (int r = 0; r < a.codes.rows; ++r) {
    const int32_t* at = a.codes.at + r * a.codes.ld;
    const A* fraction = a.codes.fraction + r * a.codes.ld;
    for (int f = 0; f < a.features.count; ++f) look_up(t + (at[f] - first), fraction[f], values + f * kChunk);
    const Lanes<A> out{a.out.p + r * a.out_row, a.out.ld, a.out.lanes};
    A* to = whole ? out.p : part;
    const ptrdiff_t ld = whole ? out.ld : kChunk;
    if (!whole && a.add) pack(Lanes<const A>{out.p, out.ld, out.lanes}, a.members, part);
    for (int tile = 0, m = 0; tile < tiles; ++tile) {
      const int size = a.members / tiles + (tile < a.members % tiles);
      runs[size - 1](values, a.features.count, a.scales + m, a.members, a.add, to + m * ld, ld);
      m += size;
    }
    if (!whole) unpack<A>(part, a.members, out);
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
