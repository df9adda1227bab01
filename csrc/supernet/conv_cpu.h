// Dense convolution of a slice and its two gradients.
//
//   out[o][q]  = sum_{b, tap, k} u[b][q*S + tap*D - pad][k] * w[o][b][tap][k]      u: what is read
//   gu[b][p]   = sum_{o, tap} dy[o][(p + pad - tap*D) / S] * w[o][b][tap]          where that is a whole number
//   gw[b][tap] = sum_q u[b][q*S + tap*D - pad] (x) dy[q]
//
// All three are sums over a list of taps, each an offset into an image with zeros around it: the forward takes every
// tap, the gradient of the input those that reach pixels of one parity. Register tiles are 6 pixels of a row x 2
// blocks. A 1x1 convolution of stride 1 is one product over all pixels of the slice.
#pragma once

#include "../core/pointwise.h"
#include "finish.h"

namespace nasfast::NASFAST_ISA::inline supernet_cpu {

inline constexpr int kMaxTaps = 49;

struct Taps {
  int count = 0;
  ptrdiff_t x[kMaxTaps];  // offset of the pixel that is read
  ptrdiff_t w[kMaxTaps];  // offset of the tap's weights
  void add(ptrdiff_t pixel, int tap) {
    x[count] = pixel;
    w[count++] = static_cast<ptrdiff_t>(tap) * kLanes * kLanes;
  }
};

template <class A>
struct TapImage {
  const A* x;
  ptrdiff_t block;  // stride
  int blocks, all_taps;
};

template <class A>
NASFAST_INLINE void clear(A* p, ptrdiff_t pixels) {
  for (ptrdiff_t i = 0; i < pixels; ++i) store(p + i * kLanes, Vec<A>{});
}

// One image's block, as it is read, into the middle of [H + 2 pad_h][W + 2 pad_w][8].
template <class A>
void pad_block(const A* x, const Finish<A>& f, int H, int W, int pad_h, int pad_w, A* out) {
  const int Wp = W + 2 * pad_w;
  clear(out, static_cast<ptrdiff_t>(pad_h) * Wp);
  clear(out + static_cast<ptrdiff_t>(pad_h + H) * Wp * kLanes, static_cast<ptrdiff_t>(pad_h) * Wp);
  for (int y = 0; y < H; ++y) {
    A* row = out + static_cast<ptrdiff_t>(pad_h + y) * Wp * kLanes;
    clear(row, pad_w);
    clear(row + static_cast<ptrdiff_t>(pad_w + W) * kLanes, pad_w);
    row += pad_w * kLanes;
    const A* in = x + static_cast<ptrdiff_t>(y) * W * kLanes;
    for (int i = 0; i < W; ++i) store(row + i * kLanes, f(load(in + i * kLanes)));
  }
}

template <class A, int S, int MR, int NR>
NASFAST_INLINE void taps_product(const TapImage<A>& in, ptrdiff_t at, const Taps& taps, const A* w, ptrdiff_t panel,
                                 Vec<A> (&acc)[MR][NR]) {
  const A* image = in.x + at;
  const ptrdiff_t w_block = static_cast<ptrdiff_t>(in.all_taps) * kLanes * kLanes;
  for (int b = 0; b < in.blocks; ++b, image += in.block, w += w_block)
    for (int t = 0; t < taps.count; ++t) {
      const A *pixel = image + taps.x[t], *weights = w + taps.w[t];
#pragma GCC unroll 8
      for (int k = 0; k < kLanes; ++k) {
        Vec<A> weight[NR];
#pragma GCC unroll 2
        for (int n = 0; n < NR; ++n) weight[n] = load(weights + n * panel + k * kLanes);
#pragma GCC unroll 8
        for (int m = 0; m < MR; ++m) {
          const Vec<A> v = broadcast<A>(pixel[m * S * kLanes + k]);
#pragma GCC unroll 2
          for (int n = 0; n < NR; ++n) acc[m][n] += v * weight[n];
        }
      }
    }
}

// emit(first pixel, acc) for the tiles of a row of `width` pixels, S apart in what is read.
template <class A, int S, int NR, class Emit>
NASFAST_INLINE void taps_row(const TapImage<A>& in, ptrdiff_t at, int width, const Taps& taps, const A* w,
                             ptrdiff_t panel, Emit&& emit) {
  int p = 0;
  const auto run = [&]<int MR>() {
    Vec<A> acc[MR][NR] = {};
    taps_product<A, S, MR, NR>(in, at + p * S * kLanes, taps, w, panel, acc);
    emit(p, acc);
    p += MR;
  };
  for (int six = tiles_of_six(width); six > 0; --six) run.template operator()<6>();
  while (p + 4 <= width) run.template operator()<4>();
  if (p + 2 <= width) run.template operator()<2>();
  if (p < width) run.template operator()<1>();
}

template <class A, int MR, int NR>
NASFAST_INLINE void store_tile(A* out, ptrdiff_t out_block, const Vec<A> (&acc)[MR][NR]) {
#pragma GCC unroll 2
  for (int n = 0; n < NR; ++n)
#pragma GCC unroll 8
    for (int m = 0; m < MR; ++m) store(out + n * out_block + m * kLanes, acc[m][n]);
}

template <class A, int S, int NR>
void conv_panel(const ConvShape& s, const TapImage<A>& in, ptrdiff_t row, const Taps& taps, const A* w, ptrdiff_t panel,
                A* out, ptrdiff_t out_block) {
  for (int oy = 0; oy < s.h; ++oy) {
    A* line = out + static_cast<ptrdiff_t>(oy) * s.w * kLanes;
    taps_row<A, S, NR>(
        in, static_cast<ptrdiff_t>(oy) * S * row, s.w, taps, w, panel,
        [&]<int MR>(int p, const Vec<A>(&acc)[MR][NR]) { store_tile(line + p * kLanes, out_block, acc); });
  }
}

template <class A>
void product_conv(const ConvShape& s, const Read<A>& x, const A* w, A* scratch, A* out) {
  const int total = s.pixels_out(), step = supernet::product_pixels(s.blocks_in), kb = s.blocks_in;
  const ptrdiff_t x_block = block_stride(total), panel = static_cast<ptrdiff_t>(kb) * kLanes * kLanes;
  for (int first = 0; first < total; first += step) {
    const int count = first + step < total ? step : total - first;
    const A* d = x.x + first * kLanes;
    ptrdiff_t d_block = x_block;
    if (!x.plain()) {
      d_block = static_cast<ptrdiff_t>(step) * kLanes;
      for (int b = 0; b < kb; ++b) {
        const Finish<A> f(x, b);
        for (int i = 0; i < count; ++i)
          store(scratch + b * d_block + i * kLanes, f(load(d + b * x_block + i * kLanes)));
      }
      d = scratch;
    }
    pointwise_tile<A>(d, d_block, kb, w, panel, count, 0, s.blocks_out,
                      [&]<int MR, int NR>(int p, int n, const Vec<A>(&acc)[MR][NR]) {
                        store_tile(out + n * x_block + (first + p) * kLanes, x_block, acc);
                      });
  }
}

template <class A>
void conv(const ConvShape& s, const Read<A>& x, const A* w, A* scratch, A* out) {
  if (s.kernel == 1 && s.stride == 1) return product_conv(s, x, w, scratch, out);
  const int pad = s.pad(), Wp = s.W + 2 * pad, K = s.kernel;
  const ptrdiff_t padded = static_cast<ptrdiff_t>(s.H + 2 * pad) * Wp * kLanes,
                  row = static_cast<ptrdiff_t>(Wp) * kLanes;
  const ptrdiff_t x_block = block_stride(s.pixels_in()), out_block = block_stride(s.pixels_out());
  const ptrdiff_t panel = static_cast<ptrdiff_t>(s.blocks_in) * K * K * kLanes * kLanes;
  Taps taps;
  for (int ky = 0; ky < K; ++ky)
    for (int kx = 0; kx < K; ++kx) taps.add(ky * s.dilation * row + kx * s.dilation * kLanes, ky * K + kx);
  const TapImage<A> in{scratch, padded, s.blocks_in, K * K};
  for (int image = 0; image < s.images; ++image) {
    const A* source = x.x + static_cast<ptrdiff_t>(image) * s.H * s.W * kLanes;
    for (int b = 0; b < s.blocks_in; ++b)
      pad_block(source + b * x_block, Finish<A>(x, b), s.H, s.W, pad, pad, scratch + b * padded);
    A* target = out + static_cast<ptrdiff_t>(image) * s.h * s.w * kLanes;
    for (int n = 0; n < s.blocks_out; n += 2) {
      const auto run = n + 1 < s.blocks_out ? (s.stride == 1 ? conv_panel<A, 1, 2> : conv_panel<A, 2, 2>)
                                            : (s.stride == 1 ? conv_panel<A, 1, 1> : conv_panel<A, 2, 1>);
      run(s, in, row, taps, w + n * panel, panel, target + n * out_block, out_block);
    }
  }
}

template <class A, int NR, class Into>
NASFAST_INLINE void emit_grad(const Into (&into)[2], ptrdiff_t at, ptrdiff_t step, int count, const auto& acc) {
#pragma GCC unroll 2
  for (int n = 0; n < NR; ++n)
#pragma GCC unroll 8
    for (int m = 0; m < count; ++m) into[n](at + m * step, acc[m][n]);
}

template <class A>
void product_input_grad(const ConvShape& s, const A* dy, const A* w, const Read<A>& x, bool add, A* gx) {
  const int total = s.pixels_out(), step = supernet::product_pixels(s.blocks_out);
  const ptrdiff_t block = block_stride(total), panel = static_cast<ptrdiff_t>(s.blocks_out) * kLanes * kLanes;
  for (int first = 0; first < total; first += step) {
    const int count = first + step < total ? step : total - first;
    pointwise_tile<A>(dy + first * kLanes, block, s.blocks_out, w, panel, count, 0, s.blocks_in,
                      [&]<int MR, int NR>(int p, int n, const Vec<A>(&acc)[MR][NR]) {
                        const GradInto<A> into[2] = {{x, n, block, gx, add}, {x, n + NR - 1, block, gx, add}};
                        emit_grad<A, NR>(into, (first + p) * kLanes, kLanes, MR, acc);
                      });
  }
}

// The gradient of the input's pixels of one parity: rows y0, y0 + S, ..., columns x0, x0 + S, ...
template <class A, int NR>
void input_grad_panel(const ConvShape& s, const TapImage<A>& dy, ptrdiff_t row, const Taps& taps, const A* w,
                      ptrdiff_t panel, int y0, int x0, ptrdiff_t image_at, const GradInto<A> (&into)[2]) {
  const int width = (s.W - x0 + s.stride - 1) / s.stride;
  for (int y = y0, a = 0; y < s.H; y += s.stride, ++a)
    taps_row<A, 1, NR>(dy, a * row, width, taps, w, panel, [&]<int MR>(int p, const Vec<A>(&acc)[MR][NR]) {
      const ptrdiff_t at = image_at + (static_cast<ptrdiff_t>(y) * s.W + x0 + p * s.stride) * kLanes;
      emit_grad<A, NR>(into, at, static_cast<ptrdiff_t>(s.stride) * kLanes, MR, acc);
    });
}

template <class A>
void conv_input_grad(const ConvShape& s, const A* dy, const A* w, const Read<A>& x, bool add, A* scratch, A* gx) {
  if (s.kernel == 1 && s.stride == 1) return product_input_grad(s, dy, w, x, add, gx);
  const int pad = s.pad(), Wp = s.w + 2 * pad, K = s.kernel, S = s.stride;
  const ptrdiff_t padded = static_cast<ptrdiff_t>(s.h + 2 * pad) * Wp * kLanes,
                  row = static_cast<ptrdiff_t>(Wp) * kLanes;
  const ptrdiff_t x_block = block_stride(s.pixels_in()), dy_block = block_stride(s.pixels_out());
  const ptrdiff_t panel = static_cast<ptrdiff_t>(s.blocks_out) * K * K * kLanes * kLanes;
  const TapImage<A> in{scratch, padded, s.blocks_out, K * K};
  const Finish<A> as_it_is(Read<A>{}, 0);
  for (int image = 0; image < s.images; ++image) {
    for (int b = 0; b < s.blocks_out; ++b)
      pad_block(dy + b * dy_block + static_cast<ptrdiff_t>(image) * s.h * s.w * kLanes, as_it_is, s.h, s.w, pad, pad,
                scratch + b * padded);
    const ptrdiff_t image_at = static_cast<ptrdiff_t>(image) * s.H * s.W * kLanes;
    for (int y0 = 0; y0 < S && y0 < s.H; ++y0)
      for (int x0 = 0; x0 < S && x0 < s.W; ++x0) {
        Taps taps;
        for (int ky = 0; ky < K; ++ky)
          for (int kx = 0; kx < K; ++kx) {
            const int oy = y0 + pad - ky * s.dilation, ox = x0 + pad - kx * s.dilation;
            if (oy % S == 0 && ox % S == 0) taps.add((oy / S + pad) * row + (ox / S + pad) * kLanes, ky * K + kx);
          }
        for (int n = 0; n < s.blocks_in; n += 2) {
          const bool pair = n + 1 < s.blocks_in;
          const GradInto<A> into[2] = {{x, n, x_block, gx, add}, {x, n + pair, x_block, gx, add}};
          const auto run = pair ? input_grad_panel<A, 2> : input_grad_panel<A, 1>;
          run(s, in, row, taps, w + n * panel, panel, y0, x0, image_at, into);
        }
      }
  }
}

template <class A>
void product_weight_grad(const ConvShape& s, const Read<A>& x, const A* dy, int first_block, int blocks, A* scratch,
                         A* gw) {
  const int total = s.pixels_out(), step = supernet::product_pixels(blocks);
  const ptrdiff_t block = block_stride(total), ldg = static_cast<ptrdiff_t>(s.blocks_out) * kLanes;
  for (int first = 0; first < total; first += step) {
    const int count = first + step < total ? step : total - first;
    const A* u = x.x + first_block * block + first * kLanes;
    ptrdiff_t u_block = block;
    if (!x.plain()) {
      u_block = static_cast<ptrdiff_t>(step) * kLanes;
      for (int b = 0; b < blocks; ++b) {
        const Finish<A> f(x, first_block + b);
        for (int i = 0; i < count; ++i) store(scratch + b * u_block + i * kLanes, f(load(u + b * block + i * kLanes)));
      }
      u = scratch;
    }
    pointwise_outer(u, u_block, blocks, dy + first * kLanes, block, s.blocks_out, count, gw, ldg);
  }
}

// gw[k][n] += sum over rows [y0, y1) of u (x) dy, for MR of the lanes k and NR blocks n.
template <class A, int S, int MR, int NR>
NASFAST_INLINE void outer_rows(const A* u, ptrdiff_t u_row, const A* dy, ptrdiff_t dy_block, int rows, int width, A* gw,
                               ptrdiff_t ldg) {
  Vec<A> acc[MR][NR] = {};
  for (int y = 0; y < rows; ++y, u += u_row) {
    const A* pixel = u;
    for (int p = 0; p < width; ++p, pixel += S * kLanes, dy += kLanes) {
      Vec<A> v[NR];
#pragma GCC unroll 2
      for (int n = 0; n < NR; ++n) v[n] = load(dy + n * dy_block);
#pragma GCC unroll 8
      for (int m = 0; m < MR; ++m) {
        const Vec<A> a = broadcast<A>(pixel[m]);
#pragma GCC unroll 2
        for (int n = 0; n < NR; ++n) acc[m][n] += a * v[n];
      }
    }
  }
#pragma GCC unroll 8
  for (int m = 0; m < MR; ++m)
#pragma GCC unroll 2
    for (int n = 0; n < NR; ++n) {
      A* to = gw + m * ldg + n * kLanes;
      store(to, load(to) + acc[m][n]);
    }
}

template <class A, int S>
void weight_grad_image(const ConvShape& s, const A* u, ptrdiff_t padded, ptrdiff_t row, int blocks, const A* dy,
                       ptrdiff_t dy_block, A* gw) {
  const int K = s.kernel, band = s.w >= 128 ? 1 : 128 / s.w;  // rows whose dy stays in the first-level cache
  const ptrdiff_t ldg = static_cast<ptrdiff_t>(s.blocks_out) * kLanes;
  for (int y0 = 0; y0 < s.h; y0 += band) {
    const int rows = y0 + band < s.h ? band : s.h - y0;
    const A* g = dy + static_cast<ptrdiff_t>(y0) * s.w * kLanes;
    for (int b = 0; b < blocks; ++b)
      for (int t = 0; t < K * K; ++t) {
        const A* from = u + b * padded + (y0 * S + t / K * s.dilation) * row + t % K * s.dilation * kLanes;
        A* to = gw + static_cast<ptrdiff_t>(b * K * K + t) * kLanes * ldg;
        int n = 0;
        for (; n + 2 <= s.blocks_out; n += 2)
          for (int half = 0; half < kLanes; half += 4)
            outer_rows<A, S, 4, 2>(from + half, S * row, g + n * dy_block, dy_block, rows, s.w,
                                   to + half * ldg + n * kLanes, ldg);
        if (n < s.blocks_out)
          outer_rows<A, S, 8, 1>(from, S * row, g + n * dy_block, dy_block, rows, s.w, to + n * kLanes, ldg);
      }
  }
}

template <class A>
void conv_weight_grad(const ConvShape& s, const Read<A>& x, const A* dy, int first, int blocks, A* scratch, A* gw) {
  if (s.kernel == 1 && s.stride == 1) return product_weight_grad(s, x, dy, first, blocks, scratch, gw);
  const int pad = s.pad(), Wp = s.W + 2 * pad;
  const ptrdiff_t padded = static_cast<ptrdiff_t>(s.H + 2 * pad) * Wp * kLanes;
  const ptrdiff_t x_block = block_stride(s.pixels_in()), dy_block = block_stride(s.pixels_out());
  for (int image = 0; image < s.images; ++image) {
    const A* source = x.x + static_cast<ptrdiff_t>(image) * s.H * s.W * kLanes;
    for (int b = 0; b < blocks; ++b)
      pad_block(source + (first + b) * x_block, Finish<A>(x, first + b), s.H, s.W, pad, pad, scratch + b * padded);
    const auto run = s.stride == 1 ? weight_grad_image<A, 1> : weight_grad_image<A, 2>;
    run(s, scratch, padded, static_cast<ptrdiff_t>(Wp) * kLanes, blocks,
        dy + static_cast<ptrdiff_t>(image) * s.h * s.w * kLanes, dy_block, gw);
  }
}

}  // namespace nasfast::NASFAST_ISA::inline supernet_cpu
