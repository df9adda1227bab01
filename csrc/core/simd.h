// Eight-lane vectors for the CPU kernels, on the compiler's own vector types.
//
// Every kernel source is compiled once per instruction set, with NASFAST_ISA naming it. All code here lives in a
// namespace of that name: an inline function compiled for AVX2 must never be the copy the linker keeps for a machine
// without it.
#pragma once

#include <cstring>

#include "types.h"

#ifndef NASFAST_ISA
#define NASFAST_ISA baseline
#endif

namespace nasfast::NASFAST_ISA {

template <class A>
struct VecOf;
template <>
struct VecOf<float> {
  typedef float type __attribute__((vector_size(32)));
  typedef float memory __attribute__((vector_size(32), aligned(4), may_alias));
  typedef int32_t mask __attribute__((vector_size(32)));
};
template <>
struct VecOf<double> {
  typedef double type __attribute__((vector_size(64)));
  typedef double memory __attribute__((vector_size(64), aligned(8), may_alias));
  typedef int64_t mask __attribute__((vector_size(64)));
};
template <class A>
using Vec = typename VecOf<A>::type;

template <class A>
NASFAST_INLINE Vec<A> broadcast(A v) {
  return Vec<A>{v, v, v, v, v, v, v, v};  // not zero + v: that would be a real addition, -0.0 + 0.0 is 0.0
}

template <class A>
NASFAST_INLINE Vec<A> zero_below(Vec<A> v) {  // relu; NaN passes, as in torch
  return v < Vec<A>{} ? Vec<A>{} : v;
}

template <class A>
NASFAST_INLINE Vec<A> below_relu(Vec<A> g, Vec<A> relu) {  // its gradient; passes where relu is NaN, as in torch
  return relu <= Vec<A>{} ? Vec<A>{} : g;
}

NASFAST_INLINE Vec<float> load(const float* p) { return *reinterpret_cast<const VecOf<float>::memory*>(p); }
NASFAST_INLINE Vec<double> load(const double* p) { return *reinterpret_cast<const VecOf<double>::memory*>(p); }
NASFAST_INLINE Vec<float> load(const bf16* p) {
  typedef uint16_t u16x8 __attribute__((vector_size(16)));
  typedef uint32_t u32x8 __attribute__((vector_size(32)));
  u16x8 half;
  std::memcpy(&half, p, sizeof(half));
  const u32x8 wide = __builtin_convertvector(half, u32x8) << 16;
  Vec<float> out;
  std::memcpy(&out, &wide, sizeof(out));
  return out;
}

NASFAST_INLINE void store(float* p, Vec<float> v) { *reinterpret_cast<VecOf<float>::memory*>(p) = v; }
NASFAST_INLINE void store(double* p, Vec<double> v) { *reinterpret_cast<VecOf<double>::memory*>(p) = v; }
// Rounds to nearest, ties to even; NaN stays NaN.
NASFAST_INLINE void store(bf16* p, Vec<float> v) {
  typedef uint16_t u16x8 __attribute__((vector_size(16)));
  typedef uint32_t u32x8 __attribute__((vector_size(32)));
  u32x8 bits;
  std::memcpy(&bits, &v, sizeof(bits));
  const u32x8 rounded = (bits + 0x7fffu + ((bits >> 16) & 1u)) >> 16;
  const u32x8 nan = u32x8{} + 0x7fc0u;
  const u16x8 half = __builtin_convertvector((v != v) ? nan : rounded, u16x8);
  std::memcpy(p, &half, sizeof(half));
}

// Lanes below `count` of a, the others of b. A choice, not a product with zeros: NaN stays on its side.
template <class A>
NASFAST_INLINE Vec<A> join_lanes(int count, Vec<A> a, Vec<A> b) {
  using Mask = typename VecOf<A>::mask;
  return Mask{0, 1, 2, 3, 4, 5, 6, 7} < Mask{} + count ? a : b;
}

// The first `count` (1..8) lanes from memory, the others zero.
template <class S>
NASFAST_INLINE Vec<acc_t<S>> load_part(const S* p, int count) {
  if (count == kLanes) return load(p);
  S lanes[kLanes] = {};
  for (int i = 0; i < count; ++i) lanes[i] = p[i];
  return load(lanes);
}

template <class S>
NASFAST_INLINE void store_part(S* p, Vec<acc_t<S>> v, int count) {
  if (count == kLanes) return store(p, v);
  S lanes[kLanes];
  store(lanes, v);
  for (int i = 0; i < count; ++i) p[i] = lanes[i];
}

}  // namespace nasfast::NASFAST_ISA
