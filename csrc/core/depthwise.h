// Depthwise convolution of one channel block, NBHW8.
//
//   out[o] = sum_k w[k] * x[o*S + k*D - pad]          x: [H][Wp][8], zero-padded left and right, w: [KH*KW][8]
//
// Rows that fall outside the image are skipped instead of padded. A tile of eight output pixels keeps eight
// accumulators in registers, which covers the latency of the multiply-add; each weight is read once per tile.
#pragma once

#include "simd.h"

namespace nasfast::NASFAST_ISA {

enum class Write { kStore, kAdd };

struct RowRange {
  int first, last;
};

// Kernel rows ky with 0 <= start + ky*D < height.
NASFAST_INLINE RowRange valid_rows(int start, int dilation, int kernel, int height) {
  RowRange r{0, kernel};
  if (start < 0) r.first = (-start + dilation - 1) / dilation;
  const int reach = height - 1 - start;
  r.last = reach < 0 ? 0 : (reach / dilation + 1 < kernel ? reach / dilation + 1 : kernel);
  if (r.first > r.last) r.first = r.last;
  return r;
}

template <class A, int KW, int S, int D, Write WRITE, int PIXELS>
NASFAST_INLINE void depthwise_tile(const A* x, ptrdiff_t row_step, const A* w, int rows, A* out) {
  Vec<A> acc[PIXELS] = {};
  for (int r = 0; r < rows; ++r, x += row_step, w += KW * kLanes) {
#pragma GCC unroll 8
    for (int kx = 0; kx < KW; ++kx) {
      const Vec<A> weight = load(w + kx * kLanes);
#pragma GCC unroll 8
      for (int j = 0; j < PIXELS; ++j) acc[j] += weight * load(x + (j * S + kx * D) * kLanes);
    }
  }
#pragma GCC unroll 8
  for (int j = 0; j < PIXELS; ++j) {
    if constexpr (WRITE == Write::kAdd) acc[j] += load(out + j * kLanes);
    store(out + j * kLanes, acc[j]);
  }
}

// One output row `oy`. `origin` is the padded column of the first tap of output column 0.
template <class A, int KH, int KW, int S, int D, Write WRITE>
void depthwise_row(const A* x, int H, int Wp, int origin, int pad_h, const A* w, int oy, int w_out, A* out) {
  const int start = oy * S - pad_h;
  const RowRange ky = valid_rows(start, D, KH, H);
  const int rows = ky.last - ky.first;
  const A* src = x + (static_cast<ptrdiff_t>(start + ky.first * D) * Wp + origin) * kLanes;
  const ptrdiff_t step = static_cast<ptrdiff_t>(D) * Wp * kLanes;
  w += ky.first * KW * kLanes;
  int ox = 0;
  for (; ox + 8 <= w_out; ox += 8)
    depthwise_tile<A, KW, S, D, WRITE, 8>(src + ox * S * kLanes, step, w, rows, out + ox * kLanes);
  for (; ox + 4 <= w_out; ox += 4)
    depthwise_tile<A, KW, S, D, WRITE, 4>(src + ox * S * kLanes, step, w, rows, out + ox * kLanes);
  for (; ox < w_out; ++ox)
    depthwise_tile<A, KW, S, D, WRITE, 1>(src + ox * S * kLanes, step, w, rows, out + ox * kLanes);
}

template <class A, int KW, int S, int D>
NASFAST_INLINE void weight_grad_row(const A* x, const A* g, int w_out, Vec<A> (&acc0)[KW], Vec<A> (&acc1)[KW]) {
  int ox = 0;
  if constexpr (S == 1) {
    for (; ox + 2 * D <= w_out; ox += 2 * D) {
      const auto pair = [&](int at) {
        const A* xp = x + at * kLanes;
        const Vec<A> g0 = load(g + at * kLanes), g1 = load(g + (at + D) * kLanes);
#pragma GCC unroll 8
        for (int j = 0; j <= KW; ++j) {
          const Vec<A> v = load(xp + j * D * kLanes);
          if (j < KW) acc0[j] += g0 * v;
          if (j > 0) acc1[j - 1] += g1 * v;
        }
      };
      if constexpr (KW == 3 && D == 2) {  // both phases at once where their accumulators fit into registers
        pair(ox);
        pair(ox + 1);
      } else {
#pragma GCC unroll 1
        for (int phase = 0; phase < D; ++phase) pair(ox + phase);
      }
    }
  }
  for (; ox < w_out; ++ox) {
    const Vec<A> g0 = load(g + ox * kLanes);
#pragma GCC unroll 8
    for (int kx = 0; kx < KW; ++kx) acc0[kx] += g0 * load(x + (ox * S + kx * D) * kLanes);
  }
}

// Gradient of the weights: gw[k] += sum_o g[o] * x[o*S + k*D - pad]. g: [h][Wg][8] with data at column `g_origin`.
// Two pixels D apart share their reads of x at stride 1, so that arithmetic and not loads is the limit; kernel rows
// take turns over bands of four output rows, which stay in the first-level cache meanwhile.
template <class A, int KH, int KW, int S, int D>
void depthwise_weight_grad(const A* x, int H, int Wp, int origin, int pad_h, const A* g, int Wg, int g_origin, int h,
                           int w_out, A* gw) {
  constexpr int kBand = 4;
  for (int band = 0; band < h; band += kBand) {
    const int end = band + kBand < h ? band + kBand : h;
    for (int ky = 0; ky < KH; ++ky) {
      Vec<A> acc0[KW] = {}, acc1[KW] = {};
      for (int oy = band; oy < end; ++oy) {
        const int iy = oy * S + ky * D - pad_h;
        if (iy < 0 || iy >= H) continue;
        weight_grad_row<A, KW, S, D>(x + (static_cast<ptrdiff_t>(iy) * Wp + origin) * kLanes,
                                     g + (static_cast<ptrdiff_t>(oy) * Wg + g_origin) * kLanes, w_out, acc0, acc1);
      }
#pragma GCC unroll 8
      for (int kx = 0; kx < KW; ++kx) {
        A* p = gw + (ky * KW + kx) * kLanes;
        store(p, load(p) + (acc0[kx] + acc1[kx]));
      }
    }
  }
}

// Gradient of the input at stride S > 1, scattered: gx[o*S + k*D - pad] += g[o] * w[k], gx padded like x.
template <class A, int KH, int KW, int S, int D>
void depthwise_scatter(const A* g, int Wg, int g_origin, int h, int w_out, const A* w, A* gx, int H, int Wp, int origin,
                       int pad_h) {
  for (int oy = 0; oy < h; ++oy) {
    for (int ky = 0; ky < KH; ++ky) {
      const int iy = oy * S + ky * D - pad_h;
      if (iy < 0 || iy >= H) continue;
      A* row = gx + (static_cast<ptrdiff_t>(iy) * Wp + origin) * kLanes;
      const A* gr = g + (static_cast<ptrdiff_t>(oy) * Wg + g_origin) * kLanes;
      for (int ox = 0; ox < w_out; ++ox) {
        const Vec<A> v = load(gr + ox * kLanes);
#pragma GCC unroll 8
        for (int kx = 0; kx < KW; ++kx) {
          A* p = row + (ox * S + kx * D) * kLanes;
          store(p, load(p) + v * load(w + (ky * KW + kx) * kLanes));
        }
      }
    }
  }
}

// The above for one kernel size, stride and dilation.
template <class A>
struct DepthwiseFns {
  void (*row)(const A*, int, int, int, int, const A*, int, int, A*);
  void (*grad_row)(const A*, int, int, int, int, const A*, int, int, A*);  // flipped, stride 1
  void (*add_grad_row)(const A*, int, int, int, int, const A*, int, int, A*);
  void (*weight_grad)(const A*, int, int, int, int, const A*, int, int, int, int, A*);
  void (*scatter)(const A*, int, int, int, int, const A*, A*, int, int, int, int);
};

template <class A, int K, int S, int D>
constexpr DepthwiseFns<A> depthwise_fns_of() {
  return {depthwise_row<A, K, K, S, D, Write::kStore>, depthwise_row<A, K, K, 1, D, Write::kStore>,
          depthwise_row<A, K, K, 1, D, Write::kAdd>, depthwise_weight_grad<A, K, K, S, D>,
          depthwise_scatter<A, K, K, S, D>};
}

// Kernels 3, 5 and 7, or 3 and 5 with dilation 2; strides 1 and 2. The fronts of the ops admit no others.
template <class A>
const DepthwiseFns<A>& depthwise_fns(int kernel, int stride, int dilation) {
  static constexpr DepthwiseFns<A> table[5][2] = {
      {depthwise_fns_of<A, 3, 1, 1>(), depthwise_fns_of<A, 3, 2, 1>()},
      {depthwise_fns_of<A, 5, 1, 1>(), depthwise_fns_of<A, 5, 2, 1>()},
      {depthwise_fns_of<A, 7, 1, 1>(), depthwise_fns_of<A, 7, 2, 1>()},
      {depthwise_fns_of<A, 3, 1, 2>(), depthwise_fns_of<A, 3, 2, 2>()},
      {depthwise_fns_of<A, 5, 1, 2>(), depthwise_fns_of<A, 5, 2, 2>()},
  };
  const int row = dilation == 1 ? (kernel - 3) / 2 : 3 + (kernel - 3) / 2;
  return table[row][stride - 1];
}

}  // namespace nasfast::NASFAST_ISA
