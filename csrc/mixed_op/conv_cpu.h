// One convolution of a candidate, one image: front -> pointwise -> statistics, and its backward.
//
// A band of output rows at a time: the front fills a tile [KB][pixels][8] in the first-level cache, the pointwise
// product reads it from there, writes y and adds to the statistics while the values are in registers. Backward goes
// the other way: dy tile, transposed product, then the front's own gradient from a whole padded image of it.
#pragma once

#include "../core/depthwise.h"
#include "../core/pointwise.h"
#include "mixed_op_kernels.h"

namespace nasfast::NASFAST_ISA::inline mixed_op_cpu {

using namespace mixed_op;

NASFAST_INLINE bool reads_in_place(const ConvGeometry& g) {
  return g.front == Front::kTaps && g.taps == 1 && g.stride_h == 1 && g.stride_w == 1 && g.pad == 0 &&
         g.tap_y[0] == 0 && g.tap_x[0] == 0;
}

// Calls visit(tile pixel pointer, input pixel pointer or null) for every pixel of a tap's block in rows [row0,
// row0+rows).
template <class A, class Tile, class Input, class Visit>
NASFAST_INLINE void visit_taps(const ConvGeometry& g, Tile* tile, ptrdiff_t tile_block, Input* x, int row0, int rows,
                               Visit&& visit) {
  const ptrdiff_t image = static_cast<ptrdiff_t>(g.H) * g.padded_width() * kLanes;
  for (int t = 0; t < g.taps; ++t) {
    for (int b = 0; b < g.blocks_in; ++b) {
      Tile* out = tile + (t * g.blocks_in + b) * tile_block;
      for (int r = 0; r < rows; ++r) {
        const int iy = (row0 + r) * g.stride_h + g.tap_y[t];
        const bool inside = iy >= 0 && iy < g.H;
        Input* row =
            x + b * image + (static_cast<ptrdiff_t>(inside ? iy : 0) * g.padded_width() + g.pad + g.tap_x[t]) * kLanes;
        for (int ox = 0; ox < g.w; ++ox, out += kLanes) visit(out, inside ? row + ox * g.stride_w * kLanes : nullptr);
      }
    }
  }
}

// The front's output for rows [row0, row0 + rows). Returns where it is; `block` receives its block stride.
template <class A>
const A* front_tile(const ConvGeometry& g, const A* x, const A* depthwise, int row0, int rows, A* tile,
                    ptrdiff_t* block) {
  const int Wp = g.padded_width();
  const ptrdiff_t image = static_cast<ptrdiff_t>(g.H) * Wp * kLanes;
  if (reads_in_place(g)) {
    *block = image;
    return x + static_cast<ptrdiff_t>(row0) * g.W * kLanes;
  }
  *block = static_cast<ptrdiff_t>(rows) * g.w * kLanes;
  if (g.front == Front::kTaps) {
    visit_taps<A>(g, tile, *block, x, row0, rows, [](A* out, const A* in) { store(out, in ? load(in) : Vec<A>{}); });
    return tile;
  }
  const auto row = depthwise_fns<A>(g.kernel, g.stride_h, g.dilation).row;
  for (int b = 0; b < g.blocks_in; ++b)
    for (int r = 0; r < rows; ++r)
      row(x + b * image, g.H, Wp, g.pad - g.pad_w, g.pad_h, depthwise + b * g.kernel * g.kernel * kLanes, row0 + r, g.w,
          tile + b * *block + static_cast<ptrdiff_t>(r) * g.w * kLanes);
  return tile;
}

// Output blocks that tap 0 and tap 1 reach, and the lanes of the block they share, if any, that belong to tap 0.
struct Split {
  int low_end, high_begin, shared_lanes;
  NASFAST_INLINE explicit Split(const ConvGeometry& g)
      : low_end((g.split + kLanes - 1) / kLanes), high_begin(g.split / kLanes), shared_lanes(g.split % kLanes) {}
};

// The product where each output channel reads one of two taps.
template <class A, class Emit>
NASFAST_INLINE void split_tile(const ConvGeometry& g, const A* d, ptrdiff_t d_block, const A* w, int pixels,
                               Emit&& emit) {
  const Split s(g);
  const int kb = g.blocks_in;
  const ptrdiff_t panel = static_cast<ptrdiff_t>(g.product_blocks()) * kLanes * kLanes;
  const A *d1 = d + kb * d_block, *w1 = w + static_cast<ptrdiff_t>(kb) * kLanes * kLanes;
  pointwise_tile<A>(d, d_block, kb, w, panel, pixels, 0, s.high_begin, emit);
  for (int p = 0; s.shared_lanes && p < pixels; ++p) {
    Vec<A> low[1][1] = {}, high[1][1] = {};
    product<A, 1, 1>(d + p * kLanes, d_block, kb, w + s.high_begin * panel, panel, low);
    product<A, 1, 1>(d1 + p * kLanes, d_block, kb, w1 + s.high_begin * panel, panel, high);
    low[0][0] = join_lanes<A>(s.shared_lanes, low[0][0], high[0][0]);
    emit(p, s.high_begin, low);
  }
  pointwise_tile<A>(d1, d_block, kb, w1, panel, pixels, s.low_end, g.blocks_out, emit);
}

// Its transpose: `dy` [NB][block] gives the gradients of both taps' inputs. `keep`: scratch of one block.
template <class A, class Emit>
NASFAST_INLINE void split_transposed(const ConvGeometry& g, A* dy, ptrdiff_t block, const A* w, int pixels, A* keep,
                                     Emit&& emit) {
  const Split s(g);
  const int kb = g.blocks_in;
  const ptrdiff_t panel = static_cast<ptrdiff_t>(g.blocks_out) * kLanes * kLanes;
  A* shared = dy + s.high_begin * block;
  for (int p = 0; s.shared_lanes && p < pixels; ++p) {
    const Vec<A> v = load(shared + p * kLanes);
    store(keep + p * kLanes, join_lanes<A>(s.shared_lanes, Vec<A>{}, v));
    store(shared + p * kLanes, join_lanes<A>(s.shared_lanes, v, Vec<A>{}));
  }
  pointwise_tile<A>(dy, block, s.low_end, w, panel, pixels, 0, kb, emit);
  for (int p = 0; s.shared_lanes && p < pixels; ++p) store(shared + p * kLanes, load(keep + p * kLanes));
  pointwise_tile<A>(shared, block, g.blocks_out - s.high_begin,
                    w + static_cast<ptrdiff_t>(s.high_begin) * kLanes * kLanes, panel, pixels, kb, 2 * kb, emit);
}

// The weight gradient, of each output channel's own tap only.
template <class A>
void split_outer(const ConvGeometry& g, const A* dy, ptrdiff_t block, const A* d, ptrdiff_t d_block, int pixels,
                 A* gw) {
  const Split s(g);
  const int kb = g.blocks_in;
  const ptrdiff_t ldg = static_cast<ptrdiff_t>(g.product_blocks()) * kLanes;
  pointwise_outer(dy, block, s.low_end, d, d_block, kb, pixels, gw, ldg);
  pointwise_outer(dy + s.high_begin * block, block, g.blocks_out - s.high_begin, d + kb * d_block, d_block, kb, pixels,
                  gw + s.high_begin * kLanes * ldg + static_cast<ptrdiff_t>(kb) * kLanes, ldg);
}

// total += band; the last band receives the total.
template <class A>
NASFAST_INLINE void add_band(A* total, int elements, bool first, bool last, A* band) {
  for (int i = 0; i < elements; i += kLanes) {
    const Vec<A> v = first ? load(band + i) : load(total + i) + load(band + i);
    store((last ? band : total) + i, v);
  }
}

// One product per copy: with both in one function the compiler would keep their register tiles in memory.
template <class S, bool SPLIT>
void conv_forward_rows(const ConvGeometry& g, const acc_t<S>* x, const PackedWeights<acc_t<S>>& weights, acc_t<S>* tile,
                       S* y, acc_t<S>* stats) {
  using A = acc_t<S>;
  const int step = conv_tile_rows(g);
  const ptrdiff_t y_block = static_cast<ptrdiff_t>(g.h) * g.w * kLanes;
  const ptrdiff_t panel = static_cast<ptrdiff_t>(g.product_blocks()) * kLanes * kLanes;
  // Sums over a band of rows on their own, so that float32 sums of a large image stay short.
  const int channels = g.blocks_out * kLanes;
  A *shift = stats, *sum = stats + channels, *square = sum + channels;
  A* total = tile + static_cast<ptrdiff_t>(step) * g.w * g.product_blocks() * kLanes;
  for (int row0 = 0; row0 < g.h; row0 += step) {
    const int rows = row0 + step < g.h ? step : g.h - row0;
    ptrdiff_t block = 0;
    const A* d = front_tile(g, x, weights.depthwise, row0, rows, tile, &block);
    S* out = y + static_cast<ptrdiff_t>(row0) * g.w * kLanes;
    const auto emit = [&]<int MR, int NR>(int p, int n0, const Vec<A>(&acc)[MR][NR]) {
#pragma GCC unroll 2
      for (int n = 0; n < NR; ++n) {
        const int c = (n0 + n) * kLanes;
#pragma GCC unroll 8
        for (int m = 0; m < MR; ++m) store(out + (n0 + n) * y_block + (p + m) * kLanes, acc[m][n]);
        if (!stats) continue;
        if (p == 0) {
          if (row0 == 0) store(shift + c, acc[0][n]);  // variances near zero keep their digits
          store(sum + c, Vec<A>{});
          store(square + c, Vec<A>{});
        }
        const Vec<A> k = load(shift + c);
        Vec<A> s = load(sum + c), q = load(square + c);
#pragma GCC unroll 8
        for (int m = 0; m < MR; ++m) {
          const Vec<A> t = acc[m][n] - k;
          s += t;
          q += t * t;
        }
        store(sum + c, s);
        store(square + c, q);
      }
    };
    if constexpr (SPLIT)
      split_tile<A>(g, d, block, weights.product, rows * g.w, emit);
    else
      pointwise_tile<A>(d, block, g.product_blocks(), weights.product, panel, rows * g.w, 0, g.blocks_out, emit);
    if (stats && step < g.h) add_band(total, 2 * channels, row0 == 0, row0 + rows == g.h, sum);
  }
}

template <class S>
void conv_forward(const ConvGeometry& g, const acc_t<S>* x, const PackedWeights<acc_t<S>>& weights, acc_t<S>* tile,
                  S* y, acc_t<S>* stats) {
  (g.split < 0 ? conv_forward_rows<S, false> : conv_forward_rows<S, true>)(g, x, weights, tile, y, stats);
}

template <class S>
void fill_dy(const GradSource<S>& source, int blocks, ptrdiff_t image_pixels, ptrdiff_t first, int pixels,
             acc_t<S>* out) {
  using A = acc_t<S>;
  for (int b = 0; b < blocks; ++b) {
    const Vec<A> a = load(source.a + b * kLanes);
    const ptrdiff_t at = (b * image_pixels + first) * kLanes;
    A* o = out + static_cast<ptrdiff_t>(b) * pixels * kLanes;
    if (source.y) {
      const Vec<A> bb = load(source.b + b * kLanes), c = load(source.c + b * kLanes);
      for (int p = 0; p < pixels; ++p)
        store(o + p * kLanes, a * load(source.g + at + p * kLanes) + (bb * load(source.y + at + p * kLanes) + c));
    } else {
      for (int p = 0; p < pixels; ++p) store(o + p * kLanes, a * load(source.g + at + p * kLanes));
    }
  }
}

template <class A>
NASFAST_INLINE void zero_columns(A* image, int rows, int width, int pad) {
  for (int r = 0; r < rows; ++r, image += static_cast<ptrdiff_t>(width) * kLanes)
    for (int p = 0; p < pad; ++p) {
      store(image + p * kLanes, Vec<A>{});
      store(image + (width - 1 - p) * kLanes, Vec<A>{});
    }
}

// Gradients behind a depthwise front, from the whole image gd [B][h][w + 2*pad][8] of its output's gradient.
template <class A>
void depthwise_backward(const ConvGeometry& g, const A* x, const PackedWeights<A>& weights, const A* gd, A* gx,
                        bool add, A* gw) {
  const auto& fns = depthwise_fns<A>(g.kernel, g.stride_h, g.dilation);
  const int Wp = g.padded_width(), Wg = g.dy_width(), origin = g.pad - g.pad_w, taps = g.kernel * g.kernel;
  for (int b = 0; b < g.blocks_in; ++b) {
    const ptrdiff_t in = static_cast<ptrdiff_t>(b) * g.H * Wp * kLanes;
    const A* gdb = gd + static_cast<ptrdiff_t>(b) * g.h * Wg * kLanes;
    if (gw) fns.weight_grad(x + in, g.H, Wp, origin, g.pad_h, gdb, Wg, g.pad, g.h, g.w, gw + b * taps * kLanes);
    if (!gx) continue;
    if (g.stride_h == 1) {
      const A* flipped = weights.flipped + b * taps * kLanes;
      const auto row = add ? fns.add_grad_row : fns.grad_row;
      for (int iy = 0; iy < g.H; ++iy)
        row(gdb, g.h, Wg, origin, g.pad_h, flipped, iy, g.W,
            gx + in + (static_cast<ptrdiff_t>(iy) * Wp + g.pad) * kLanes);
    } else {
      fns.scatter(gdb, Wg, g.pad, g.h, g.w, weights.depthwise + b * taps * kLanes, gx + in, g.H, Wp, origin, g.pad_h);
    }
  }
}

template <class S>
void conv_backward(const ConvGeometry& g, const acc_t<S>* x, const GradSource<S>& source,
                   const PackedWeights<acc_t<S>>& weights, acc_t<S>* tile, acc_t<S>* padded_dy, acc_t<S>* gx, bool add,
                   const WeightGrads<acc_t<S>>& grads) {
  using A = acc_t<S>;
  const int step = conv_tile_rows(g), KB = g.product_blocks(), Wg = g.dy_width();
  const ptrdiff_t room = static_cast<ptrdiff_t>(step) * g.w * kLanes;
  const ptrdiff_t panel = static_cast<ptrdiff_t>(g.blocks_out) * kLanes * kLanes;
  A *d_tile = tile, *dy = tile + KB * room, *gd_tile = dy + g.blocks_out * room;
  const bool depthwise = g.front == Front::kDepthwise;
  const bool want_gd = gx || (depthwise && grads.depthwise);
  if (gx && !add && !(depthwise && g.stride_h == 1)) {  // these scatter
    const ptrdiff_t elements = static_cast<ptrdiff_t>(g.blocks_in) * g.H * g.padded_width() * kLanes;
    for (ptrdiff_t i = 0; i < elements; i += kLanes) store(gx + i, Vec<A>{});
  }
  if (depthwise && want_gd) zero_columns(padded_dy, KB * g.h, Wg, g.pad);
  for (int row0 = 0; row0 < g.h; row0 += step) {
    const int rows = row0 + step < g.h ? step : g.h - row0, pixels = rows * g.w;
    const ptrdiff_t block = static_cast<ptrdiff_t>(pixels) * kLanes;
    fill_dy(source, g.blocks_out, static_cast<ptrdiff_t>(g.h) * g.w, static_cast<ptrdiff_t>(row0) * g.w, pixels, dy);
    if (grads.product) {
      ptrdiff_t d_block = 0;
      const A* d = front_tile(g, x, weights.depthwise, row0, rows, d_tile, &d_block);
      if (g.split < 0)
        pointwise_outer(dy, block, g.blocks_out, d, d_block, KB, pixels, grads.product,
                        static_cast<ptrdiff_t>(KB) * kLanes);
      else
        split_outer(g, dy, block, d, d_block, pixels, grads.product);
    }
    if (!want_gd) continue;
    if (!depthwise) {
      const auto emit = [&]<int MR, int NR>(int p, int n0, const Vec<A>(&acc)[MR][NR]) {
#pragma GCC unroll 2
        for (int n = 0; n < NR; ++n)
#pragma GCC unroll 8
          for (int m = 0; m < MR; ++m) store(gd_tile + (n0 + n) * block + (p + m) * kLanes, acc[m][n]);
      };
      if (g.split < 0)
        pointwise_tile<A>(dy, block, g.blocks_out, weights.transposed, panel, pixels, 0, KB, emit);
      else
        split_transposed<A>(g, dy, block, weights.transposed, pixels, gd_tile + KB * room, emit);
      visit_taps<A>(g, gd_tile, block, gx, row0, rows, [](A* from, A* to) {
        if (to) store(to, load(to) + load(from));
      });
      continue;
    }
    const auto emit = [&]<int MR, int NR>(int p, int n0, const Vec<A>(&acc)[MR][NR]) {
      const ptrdiff_t image = static_cast<ptrdiff_t>(g.h) * Wg * kLanes;
      int row = p / g.w, left = (row + 1) * g.w - p;
      A* out = padded_dy + n0 * image + (static_cast<ptrdiff_t>(row0 + row) * Wg + g.pad + p - row * g.w) * kLanes;
#pragma GCC unroll 8
      for (int m = 0; m < MR; ++m) {
#pragma GCC unroll 2
        for (int n = 0; n < NR; ++n) store(out + n * image, acc[m][n]);
        out += kLanes;
        if (--left == 0) {
          out += 2 * g.pad * kLanes;
          left = g.w;
        }
      }
    };
    pointwise_tile<A>(dy, block, g.blocks_out, weights.transposed, panel, pixels, 0, KB, emit);
  }
  if (depthwise && want_gd) depthwise_backward(g, x, weights, padded_dy, gx, add, grads.depthwise);
}

}  // namespace nasfast::NASFAST_ISA::inline mixed_op_cpu
