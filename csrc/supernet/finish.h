// Reading a value, and what its reader's activation lets pass back.
#pragma once

#include <limits>

#include "../core/simd.h"
#include "supernet_kernels.h"

namespace nasfast::NASFAST_ISA::inline supernet_cpu {

using supernet::NormGrad;
using supernet::Read;

// Bounds of an activation.
template <class A>
NASFAST_INLINE A low_of(Act act) {
  return act == Act::kNone ? -std::numeric_limits<A>::infinity() : A(0);
}
template <class A>
NASFAST_INLINE A high_of(Act act) {
  return act == Act::kRelu6 ? A(6) : std::numeric_limits<A>::infinity();
}

// One channel block of a value as its reader sees it, in registers.
template <class A>
struct Finish {
  Vec<A> scale, shift, low, high;
  NASFAST_INLINE Finish(const Read<A>& r, int block, bool with_then = true) {
    scale = r.scale ? load(r.scale + block * kLanes) : broadcast<A>(A(1));
    shift = r.scale ? load(r.shift + block * kLanes) : Vec<A>{};
    const Act then = with_then ? r.then : Act::kNone;
    const A a = low_of<A>(r.act), b = low_of<A>(then), c = high_of<A>(r.act), d = high_of<A>(then);
    low = broadcast<A>(a > b ? a : b);
    high = broadcast<A>(c < d ? c : d);
  }
  NASFAST_INLINE Vec<A> operator()(Vec<A> v) const {
    v = v * scale + shift;
    v = v < low ? low : v;  // NaN passes both
    return v > high ? high : v;
  }
};

// g where an activation lets it pass: strictly between its bounds, as in torch; everywhere without one.
template <class A>
struct Mask {
  Vec<A> low, high;
  NASFAST_INLINE explicit Mask(Act act) : low(broadcast<A>(low_of<A>(act))), high(broadcast<A>(high_of<A>(act))) {
    if (act == Act::kNone) low = broadcast<A>(std::numeric_limits<A>::quiet_NaN());
    if (act != Act::kRelu6) high = broadcast<A>(std::numeric_limits<A>::quiet_NaN());
  }
  NASFAST_INLINE Vec<A> operator()(Vec<A> g, Vec<A> v) const {
    g = v <= low ? Vec<A>{} : g;  // never true for NaN
    return v >= high ? Vec<A>{} : g;
  }
};

// Where a gradient goes: through `then` of what was read, stored or added.
template <class A>
struct GradInto {
  Finish<A> value;
  Mask<A> mask;
  const A* x;
  A* gx;
  bool masked, add;
  NASFAST_INLINE GradInto(const Read<A>& r, int block, ptrdiff_t x_block, A* to, bool add_to)
      : value(r, block, false),
        mask(r.then),
        x(r.x + block * x_block),
        gx(to + block * x_block),
        masked(r.then != Act::kNone),
        add(add_to) {}
  NASFAST_INLINE void operator()(ptrdiff_t at, Vec<A> g) const {
    if (masked) g = mask(g, value(load(x + at)));
    store(gx + at, add ? load(gx + at) + g : g);
  }
};

}  // namespace nasfast::NASFAST_ISA::inline supernet_cpu
