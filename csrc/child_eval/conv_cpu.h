// Dense and depthwise convolution of a slice, blocked, with what comes before and after each in the same pass.
//
//   out[o][q] = after(sum_{b, tap, k} before(x)[b][q*S + tap*D - pad][k] * w[o][b][tap][k])
//
// A 1x1 convolution is a product over all pixels of the slice. A larger one copies an image with zeros around it, so
// that no tap needs a test, and works on register tiles of up to 6 pixels of a row x 2 blocks of output channels.
#pragma once

#include <limits>

#include "../core/pointwise.h"
#include "child_eval_kernels.h"

namespace nasfast::NASFAST_ISA::inline child_eval_cpu {

using child_eval::Affine;

using V = Vec<float>;

// Affine of one channel block, in registers.
struct Finish {
  V scale, shift, low, high;
  NASFAST_INLINE Finish(const Affine& a, int block) {
    constexpr float kInf = std::numeric_limits<float>::infinity();
    scale = a.scale ? load(a.scale + block * kLanes) : broadcast<float>(1.0f);
    shift = a.scale ? load(a.shift + block * kLanes) : V{};
    low = broadcast<float>(a.act == Act::kNone ? -kInf : 0.0f);
    high = broadcast<float>(a.act == Act::kRelu6 ? 6.0f : kInf);
  }
  NASFAST_INLINE V operator()(V v) const {
    v = v * scale + shift;
    v = v < low ? low : v;  // NaN passes both
    return v > high ? high : v;
  }
};

// One image's block, with `before` applied, into the middle of [H + 2 pad][W + 2 pad][8].
inline void pad_block(const float* x, const Affine& before, int block, int H, int W, int pad, float* out) {
  const int Wp = W + 2 * pad;
  const auto clear = [](float* p, ptrdiff_t pixels) {
    for (ptrdiff_t i = 0; i < pixels; ++i) store(p + i * kLanes, V{});
  };
  clear(out, static_cast<ptrdiff_t>(pad) * Wp);
  clear(out + static_cast<ptrdiff_t>(pad + H) * Wp * kLanes, static_cast<ptrdiff_t>(pad) * Wp);
  const Finish f(before, block);
  for (int y = 0; y < H; ++y) {
    float* row = out + static_cast<ptrdiff_t>(pad + y) * Wp * kLanes;
    clear(row, pad);
    clear(row + static_cast<ptrdiff_t>(pad + W) * kLanes, pad);
    row += pad * kLanes;
    const float* in = x + static_cast<ptrdiff_t>(y) * W * kLanes;
    for (int i = 0; i < W; ++i) store(row + i * kLanes, f(load(in + i * kLanes)));
  }
}

template <int MR, int NR>
NASFAST_INLINE void emit_tile(const Affine& after, int block, float* out, ptrdiff_t out_block, const V (&acc)[MR][NR]) {
#pragma GCC unroll 2
  for (int n = 0; n < NR; ++n) {
    const Finish f(after, block + n);
#pragma GCC unroll 8
    for (int m = 0; m < MR; ++m) store(out + n * out_block + m * kLanes, f(acc[m][n]));
  }
}

// Product of `pixels` pixels in place, so many at a time that they stay in the second-level cache for all of w.
inline void product_rows(const float* d, ptrdiff_t d_block, int kb, const float* w, int nb, int pixels,
                         const Affine& after, float* out, ptrdiff_t out_block) {
  const ptrdiff_t panel = static_cast<ptrdiff_t>(kb) * kLanes * kLanes;
  const int fit = 4096 / kb / 6 * 6, step = fit > 192 ? fit : 192;
  for (int first = 0; first < pixels; first += step) {
    const int count = first + step < pixels ? step : pixels - first;
    pointwise_tile<float>(d + first * kLanes, d_block, kb, w, panel, count, 0, nb,
                          [&]<int MR, int NR>(int p, int n, const V(&acc)[MR][NR]) {
                            emit_tile(after, n, out + n * out_block + (first + p) * kLanes, out_block, acc);
                          });
  }
}

inline void conv_1x1(const ConvShape& s, const float* x, const Affine& before, const float* w, const Affine& after,
                     float* scratch, float* out) {
  const ptrdiff_t x_block = block_stride(s.pixels_in());
  const ptrdiff_t out_block = block_stride(s.pixels_out());
  if (s.stride == 1 && before.empty())
    return product_rows(x, x_block, s.blocks_in, w, s.blocks_out, s.pixels_out(), after, out, out_block);
  const int step = child_eval::gather_pixels(s), total = s.pixels_out();
  const ptrdiff_t tile_block = static_cast<ptrdiff_t>(step) * kLanes;
  for (int first = 0; first < total; first += step) {
    const int count = first + step < total ? step : total - first;
    for (int b = 0; b < s.blocks_in; ++b) {
      const Finish f(before, b);
      const float* in = x + b * x_block;
      float* tile = scratch + b * tile_block;
      if (s.stride == 1) {
        for (int i = 0; i < count; ++i) store(tile + i * kLanes, f(load(in + (first + i) * kLanes)));
      } else {
        for (int i = 0; i < count; ++i) {
          const int q = first + i, ox = q % s.w, line = q / s.w;
          const int oy = line % s.h, image = line / s.h;
          const ptrdiff_t at =
              (static_cast<ptrdiff_t>(image) * s.H + oy * s.stride + s.first) * s.W + ox * s.stride + s.first;
          store(tile + i * kLanes, f(load(in + at * kLanes)));
        }
      }
    }
    product_rows(scratch, tile_block, s.blocks_in, w, s.blocks_out, count, after, out + first * kLanes, out_block);
  }
}

struct Padded {
  const float* x;
  ptrdiff_t block, row;  // strides
  int blocks, kernel, dilation;
};

template <int S, int MR, int NR>
NASFAST_INLINE void taps_product(const Padded& in, ptrdiff_t at, const float* w, ptrdiff_t panel, V (&acc)[MR][NR]) {
  const float* image = in.x + at;
  for (int b = 0; b < in.blocks; ++b, image += in.block)
    for (int ky = 0; ky < in.kernel; ++ky) {
      const float* row = image + ky * in.dilation * in.row;
      for (int kx = 0; kx < in.kernel; ++kx, row += in.dilation * kLanes, w += kLanes * kLanes) {
#pragma GCC unroll 8
        for (int k = 0; k < kLanes; ++k) {
          V weight[NR];
#pragma GCC unroll 2
          for (int n = 0; n < NR; ++n) weight[n] = load(w + n * panel + k * kLanes);
#pragma GCC unroll 8
          for (int m = 0; m < MR; ++m) {
            const V v = broadcast<float>(row[m * S * kLanes + k]);
#pragma GCC unroll 2
            for (int n = 0; n < NR; ++n) acc[m][n] += v * weight[n];
          }
        }
      }
    }
}

template <int S, int NR>
void conv_row(const Padded& in, ptrdiff_t at, int width, const float* w, ptrdiff_t panel, const Affine& after,
              int block, float* out, ptrdiff_t out_block) {
  int p = 0;
  const auto run = [&]<int MR>() {
    V acc[MR][NR] = {};
    taps_product<S, MR, NR>(in, at + p * S * kLanes, w, panel, acc);
    emit_tile(after, block, out + p * kLanes, out_block, acc);
    p += MR;
  };
  for (int six = tiles_of_six(width); six > 0; --six) run.template operator()<6>();
  while (p + 4 <= width) run.template operator()<4>();
  if (p + 2 <= width) run.template operator()<2>();
  if (p < width) run.template operator()<1>();
}

template <int S>
void conv_image(const ConvShape& s, const Padded& in, const float* w, const Affine& after, float* out,
                ptrdiff_t out_block) {
  const ptrdiff_t panel = static_cast<ptrdiff_t>(s.blocks_in) * s.kernel * s.kernel * kLanes * kLanes;
  for (int n = 0; n < s.blocks_out; n += 2) {
    const bool pair = n + 1 < s.blocks_out;
    for (int oy = 0; oy < s.h; ++oy) {
      const ptrdiff_t at = static_cast<ptrdiff_t>(oy) * S * in.row;
      float* row = out + n * out_block + static_cast<ptrdiff_t>(oy) * s.w * kLanes;
      (pair ? conv_row<S, 2> : conv_row<S, 1>)(in, at, s.w, w + n * panel, panel, after, n, row, out_block);
    }
  }
}

inline void conv(const ConvShape& s, const float* x, const Affine& before, const float* w, const Affine& after,
                 float* scratch, float* out) {
  if (s.kernel == 1) return conv_1x1(s, x, before, w, after, scratch, out);
  const int pad = s.pad(), Wp = s.W + 2 * pad;
  const ptrdiff_t padded = static_cast<ptrdiff_t>(s.H + 2 * pad) * Wp * kLanes;
  const ptrdiff_t x_block = block_stride(s.pixels_in());
  const ptrdiff_t out_block = block_stride(s.pixels_out());
  const Padded in{scratch, padded, static_cast<ptrdiff_t>(Wp) * kLanes, s.blocks_in, s.kernel, s.dilation};
  for (int image = 0; image < s.images; ++image) {
    const float* source = x + static_cast<ptrdiff_t>(image) * s.H * s.W * kLanes;
    for (int b = 0; b < s.blocks_in; ++b)
      pad_block(source + b * x_block, before, b, s.H, s.W, pad, scratch + b * padded);
    float* target = out + static_cast<ptrdiff_t>(image) * s.h * s.w * kLanes;
    (s.stride == 1 ? conv_image<1> : conv_image<2>)(s, in, w, after, target, out_block);
  }
}

template <int K, int S, int PIXELS>
NASFAST_INLINE void spread_tile(const float* x, ptrdiff_t row, int dilation, const float* w, const Finish& f,
                                float* out) {
  V acc[PIXELS] = {};
  for (int ky = 0; ky < K; ++ky, x += row * dilation) {
#pragma GCC unroll 8
    for (int kx = 0; kx < K; ++kx) {
      const V weight = load(w + (ky * K + kx) * kLanes);
      const float* at = x + kx * dilation * kLanes;
#pragma GCC unroll 8
      for (int j = 0; j < PIXELS; ++j) acc[j] += weight * load(at + j * S * kLanes);
    }
  }
#pragma GCC unroll 8
  for (int j = 0; j < PIXELS; ++j) store(out + j * kLanes, f(acc[j]));
}

// Depthwise convolution of one padded block.
template <int K, int S>
void spread_image(const float* x, int Wp, int dilation, const float* w, const Finish& f, int h, int width, float* out) {
  const ptrdiff_t row = static_cast<ptrdiff_t>(Wp) * kLanes;
  for (int oy = 0; oy < h; ++oy, x += S * row, out += static_cast<ptrdiff_t>(width) * kLanes) {
    int ox = 0;
    for (; ox + 8 <= width; ox += 8) spread_tile<K, S, 8>(x + ox * S * kLanes, row, dilation, w, f, out + ox * kLanes);
    for (; ox + 4 <= width; ox += 4) spread_tile<K, S, 4>(x + ox * S * kLanes, row, dilation, w, f, out + ox * kLanes);
    for (; ox < width; ++ox) spread_tile<K, S, 1>(x + ox * S * kLanes, row, dilation, w, f, out + ox * kLanes);
  }
}

using SpreadFn = void (*)(const float*, int, int, const float*, const Finish&, int, int, float*);

// Kernels are 3, 5 or 7, strides 1 or 2: the planner admits no others.
inline SpreadFn spread_fn(int kernel, int stride) {
  static constexpr SpreadFn table[3][2] = {{spread_image<3, 1>, spread_image<3, 2>},
                                           {spread_image<5, 1>, spread_image<5, 2>},
                                           {spread_image<7, 1>, spread_image<7, 2>}};
  return table[(kernel - 3) / 2][stride - 1];
}

inline void depthwise(const ConvShape& s, const float* x, const Affine& before, const float* w, const Affine& after,
                      float* scratch, float* out) {
  const SpreadFn spread = spread_fn(s.kernel, s.stride);
  const int taps = s.kernel * s.kernel;
  for (int b = 0; b < s.blocks_in; ++b) {
    const Finish f(after, b);
    const float* in = x + b * block_stride(s.pixels_in());
    float* to = out + b * block_stride(s.pixels_out());
    for (int image = 0; image < s.images; ++image) {
      pad_block(in + static_cast<ptrdiff_t>(image) * s.H * s.W * kLanes, before, b, s.H, s.W, s.pad(), scratch);
      spread(scratch, s.W + 2 * s.pad(), s.dilation, w + b * taps * kLanes, f, s.h, s.w,
             to + static_cast<ptrdiff_t>(image) * s.h * s.w * kLanes);
    }
  }
}

}  // namespace nasfast::NASFAST_ISA::inline child_eval_cpu
