// A chunk of lanes in two vectors, and the table of base and slope that both passes look values up in.
#pragma once

#include "../core/simd.h"
#include "table_kernels.h"

namespace nasfast::NASFAST_ISA::inline table_cpu {

using table::kChunk;
using table::kPair;
using table::Lanes;

inline constexpr int kAhead = 16;  // rows that lie far apart are asked for so long before

template <class A>
NASFAST_INLINE void load_lanes(const A* p, int lanes, Vec<A>& low, Vec<A>& high) {
  if (lanes == kChunk) {
    low = load(p);
    high = load(p + kLanes);
  } else if (lanes > kLanes) {
    low = load(p);
    high = load_part(p + kLanes, lanes - kLanes);
  } else {
    low = load_part(p, lanes);
    high = Vec<A>{};
  }
}

template <class A>
NASFAST_INLINE void store_lanes(A* p, int lanes, Vec<A> low, Vec<A> high) {
  if (lanes == kChunk) {
    store(p, low);
    store(p + kLanes, high);
  } else if (lanes > kLanes) {
    store(p, low);
    store_part(p + kLanes, high, lanes - kLanes);
  } else {
    store_part(p, low, lanes);
  }
}

// Asks for the first rows of some lanes, which lie far apart, before they are read, or written where WRITE.
template <int WRITE, class T>
NASFAST_INLINE void fetch_lanes(const Lanes<T>& lanes, int rows) {
  for (int r = 0; r < rows; ++r) __builtin_prefetch(lanes.p + r * lanes.ld, WRITE);
}

template <class A>
NASFAST_INLINE void store_pair(A* p, Vec<A> base_low, Vec<A> base_high, Vec<A> slope_low, Vec<A> slope_high) {
  store(p, base_low);
  store(p + kLanes, base_high);
  store(p + kChunk, slope_low);
  store(p + kChunk + kLanes, slope_high);
}

template <class A>
void make_table(const table::Features& features, const Lanes<const A>& weights, A* t) {
  const A* w = weights.p;
  for (int f = 0; f < features.count; ++f) {
    const int rows = features.offsets[f + 1] - features.offsets[f], increments = features.increments[f];
    Vec<A> before_low = {}, before_high = {};
    for (int i = 0; i < rows; ++i, w += weights.ld, t += kPair) {
      Vec<A> low, high;
      load_lanes(w, weights.lanes, low, high);
      __builtin_prefetch(w + kAhead * weights.ld);
      if (i < increments) {
        store_pair<A>(t, before_low, before_high, low, high);
        before_low += low;
        before_high += high;
      } else {
        store_pair<A>(t, low, high, Vec<A>{}, Vec<A>{});
      }
    }
  }
}

// base + fraction * slope
template <class A>
NASFAST_INLINE void look_up(const A* pair, A fraction, A* value) {
  const Vec<A> f = broadcast<A>(fraction);
  store(value, load(pair) + f * load(pair + kChunk));
  store(value + kLanes, load(pair + kLanes) + f * load(pair + kChunk + kLanes));
}

}  // namespace nasfast::NASFAST_ISA::inline table_cpu
