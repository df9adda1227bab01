// Pointwise (1x1) products over a tile of pixels, NBHW8.
//
//   pointwise_tile   out[p][n] = sum_k d[p][k] * w[n][k]      d: [KB][stride][8], w: panels [NB][KB*8][8]
//   pointwise_outer  gw[m][n] += sum_p a[p][m] * b[p][n]      the weight gradient, row-major, rows ldg apart
//
// The register tile is 6 pixels x 2 blocks: 12 accumulators, 8 loads per 12 multiply-adds, 15 registers.
#pragma once

#include "simd.h"

namespace nasfast::NASFAST_ISA {

template <class A, int MR, int NR>
NASFAST_INLINE void product(const A* d, ptrdiff_t d_block, int kb, const A* w, ptrdiff_t w_panel,
                            Vec<A> (&acc)[MR][NR]) {
  for (int b = 0; b < kb; ++b, d += d_block, w += kLanes * kLanes) {
#pragma GCC unroll 8
    for (int k = 0; k < kLanes; ++k) {
      Vec<A> weight[NR];
#pragma GCC unroll 2
      for (int n = 0; n < NR; ++n) weight[n] = load(w + n * w_panel + k * kLanes);
#pragma GCC unroll 8
      for (int m = 0; m < MR; ++m) {
        const Vec<A> v = broadcast<A>(d[m * kLanes + k]);
#pragma GCC unroll 2
        for (int n = 0; n < NR; ++n) acc[m][n] += v * weight[n];
      }
    }
  }
}

// Runs `emit(first pixel, first block, acc[pixel][block])` for every register tile.
template <class A, int NR, class Emit>
NASFAST_INLINE void pointwise_panel(const A* d, ptrdiff_t d_block, int kb, const A* w, ptrdiff_t w_panel, int pixels,
                                    int block, Emit&& emit) {
  int p = 0;
  const auto run = [&]<int MR>() {
    Vec<A> acc[MR][NR] = {};
    product<A, MR, NR>(d + p * kLanes, d_block, kb, w, w_panel, acc);
    emit(p, block, acc);
    p += MR;
  };
  while (p + 6 <= pixels) run.template operator()<6>();
  if (p + 4 <= pixels) run.template operator()<4>();
  if (p + 2 <= pixels) run.template operator()<2>();
  if (p < pixels) run.template operator()<1>();
}

// A row as tiles of 6, 4 and fewer pixels: as many of 6 as leave a multiple of 4, if there is such a number.
NASFAST_INLINE int tiles_of_six(int width) {
  for (int six = width / 6; six >= 0; --six)
    if ((width - 6 * six) % 4 == 0) return six;
  return width / 6;
}

// Output blocks [first, last) of w, whose panels lie `panel` elements apart; `emit` counts blocks from 0.
template <class A, class Emit>
NASFAST_INLINE void pointwise_tile(const A* d, ptrdiff_t d_block, int kb, const A* w, ptrdiff_t panel, int pixels,
                                   int first, int last, Emit&& emit) {
  int n = first;
  for (; n + 2 <= last; n += 2) pointwise_panel<A, 2>(d, d_block, kb, w + n * panel, panel, pixels, n, emit);
  if (n < last) pointwise_panel<A, 1>(d, d_block, kb, w + n * panel, panel, pixels, n, emit);
}

template <class A, int MR, int NR>
NASFAST_INLINE void outer(const A* a, const A* b, ptrdiff_t b_block, int pixels, A* gw, ptrdiff_t ldg) {
  Vec<A> acc[MR][NR] = {};
  for (int p = 0; p < pixels; ++p, a += kLanes, b += kLanes) {
    Vec<A> v[NR];
#pragma GCC unroll 2
    for (int n = 0; n < NR; ++n) v[n] = load(b + n * b_block);
#pragma GCC unroll 8
    for (int m = 0; m < MR; ++m) {
      const Vec<A> s = broadcast<A>(a[m]);
#pragma GCC unroll 2
      for (int n = 0; n < NR; ++n) acc[m][n] += s * v[n];
    }
  }
#pragma GCC unroll 8
  for (int m = 0; m < MR; ++m)
#pragma GCC unroll 2
    for (int n = 0; n < NR; ++n) {
      A* g = gw + m * ldg + n * kLanes;
      store(g, load(g) + acc[m][n]);
    }
}

template <class A>
void pointwise_outer(const A* a, ptrdiff_t a_block, int mb, const A* b, ptrdiff_t b_block, int nb, int pixels, A* gw,
                     ptrdiff_t ldg) {
  for (int m = 0; m < mb; ++m) {
    const A* am = a + m * a_block;
    A* gm = gw + m * kLanes * ldg;
    int n = 0;
    for (; n + 2 <= nb; n += 2)
      for (int half = 0; half < kLanes; half += 4)
        outer<A, 4, 2>(am + half, b + n * b_block, b_block, pixels, gm + half * ldg + n * kLanes, ldg);
    if (n < nb) outer<A, 8, 1>(am, b + n * b_block, b_block, pixels, gm + n * kLanes, ldg);
  }
}

}  // namespace nasfast::NASFAST_ISA
