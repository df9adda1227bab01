// Inverted residual in one pass over the image:
//
//   h = relu6(affine(expand * x)),  d = relu6(affine(depthwise(h))),  out = affine(project * d) [+ x]
//
// A few hidden blocks of a few images at a time: their h, written with zeros around each image, and d stay in the
// second-level cache; the projection adds them to `out`, which the last of them finishes.
#pragma once

#include "conv_cpu.h"

namespace nasfast::NASFAST_ISA::inline child_eval_cpu {

struct HiddenTile {
  float* h;        // [hidden][images][Hp][Wp][8]
  float* d;        // [hidden][block_stride]
  int32_t* place;  // of every pixel of the images in h's block
  ptrdiff_t h_block, d_block;
};

inline void expand_tile(const float* x, ptrdiff_t x_block, int kb, const float* w, int first, int count, int pixels,
                        const Affine& after, const HiddenTile& t) {
  const ptrdiff_t panel = static_cast<ptrdiff_t>(kb) * kLanes * kLanes;
  pointwise_tile<float>(x, x_block, kb, w + first * panel, panel, pixels, 0, count,
                        [&]<int MR, int NR>(int p, int n, const V(&acc)[MR][NR]) {
#pragma GCC unroll 2
                          for (int j = 0; j < NR; ++j) {
                            const Finish f(after, first + n + j);
                            float* h = t.h + (n + j) * t.h_block;
#pragma GCC unroll 8
                            for (int m = 0; m < MR; ++m) store(h + t.place[p + m], f(acc[m][j]));
                          }
                        });
}

inline void copy_tile(const float* x, ptrdiff_t x_block, int first, int count, int pixels, const HiddenTile& t) {
  for (int n = 0; n < count; ++n)
    for (int p = 0; p < pixels; ++p)
      store(t.h + n * t.h_block + t.place[p], load(x + (first + n) * x_block + p * kLanes));
}

// out (=, +=) project * d, finished after the last hidden block. `residual`: null or what is added at the end.
template <bool FIRST, bool LAST>
void project_tile(const HiddenTile& t, const float* w, int first, int count, int hidden_blocks, int nb, int pixels,
                  const Affine& after, const float* residual, float* out, ptrdiff_t out_block) {
  const ptrdiff_t panel = static_cast<ptrdiff_t>(hidden_blocks) * kLanes * kLanes;
  pointwise_tile<float>(t.d, t.d_block, count, w + static_cast<ptrdiff_t>(first) * kLanes * kLanes, panel, pixels, 0,
                        nb, [&]<int MR, int NR>(int p, int n, const V(&acc)[MR][NR]) {
#pragma GCC unroll 2
                          for (int j = 0; j < NR; ++j) {
                            const Finish f(after, n + j);
                            const ptrdiff_t at = (n + j) * out_block + p * kLanes;
#pragma GCC unroll 8
                            for (int m = 0; m < MR; ++m) {
                              V v = acc[m][j];
                              if constexpr (!FIRST) v += load(out + at + m * kLanes);
                              if constexpr (LAST) {
                                v = f(v);
                                if (residual) v += load(residual + at + m * kLanes);
                              }
                              store(out + at + m * kLanes, v);
                            }
                          }
                        });
}

inline void inverted_residual(const ConvShape& s, const float* x, const child_eval::InvertedResidual& r, float* scratch,
                              float* out) {
  const auto tiles = child_eval::residual_tiles(s);
  const int pad = s.pad(), Hp = s.H + 2 * pad, Wp = s.W + 2 * pad;
  HiddenTile t;
  t.h_block = static_cast<ptrdiff_t>(tiles.images) * Hp * Wp * kLanes;
  t.h = scratch;
  t.d_block = block_stride(static_cast<int64_t>(tiles.images) * s.h * s.w);
  t.d = t.h + tiles.hidden * t.h_block;
  t.place = reinterpret_cast<int32_t*>(t.d + tiles.hidden * t.d_block);
  for (ptrdiff_t i = 0; i < tiles.hidden * t.h_block; i += kLanes) store(t.h + i, V{});
  for (int n = 0, p = 0; n < tiles.images; ++n)
    for (int y = 0; y < s.H; ++y)
      for (int c = 0; c < s.W; ++c, ++p) t.place[p] = ((n * Hp + pad + y) * Wp + pad + c) * kLanes;

  const ptrdiff_t x_block = block_stride(s.pixels_in());
  const ptrdiff_t out_block = block_stride(s.pixels_out());
  const SpreadFn spread = spread_fn(s.kernel, s.stride);
  const int taps = s.kernel * s.kernel;
  for (int image = 0; image < s.images; image += tiles.images) {
    const int images = image + tiles.images < s.images ? tiles.images : s.images - image;
    const int pixels_in = images * s.H * s.W, pixels_out = images * s.h * s.w;
    const float* xi = x + static_cast<ptrdiff_t>(image) * s.H * s.W * kLanes;
    float* oi = out + static_cast<ptrdiff_t>(image) * s.h * s.w * kLanes;
    const float* residual = r.residual ? xi : nullptr;  // of out's shape
    for (int first = 0; first < r.hidden_blocks; first += tiles.hidden) {
      const int count = first + tiles.hidden < r.hidden_blocks ? tiles.hidden : r.hidden_blocks - first;
      if (r.expand)
        expand_tile(xi, x_block, s.blocks_in, r.expand, first, count, pixels_in, r.expanded, t);
      else
        copy_tile(xi, x_block, first, count, pixels_in, t);
      for (int b = 0; b < count; ++b) {
        const Finish f(r.spread, first + b);
        for (int n = 0; n < images; ++n)
          spread(t.h + b * t.h_block + static_cast<ptrdiff_t>(n) * Hp * Wp * kLanes, Wp, 1,
                 r.depthwise + (first + b) * taps * kLanes, f, s.h, s.w,
                 t.d + b * t.d_block + static_cast<ptrdiff_t>(n) * s.h * s.w * kLanes);
      }
      const bool last = first + count == r.hidden_blocks;
      const auto project = first ? (last ? project_tile<false, true> : project_tile<false, false>)
                                 : (last ? project_tile<true, true> : project_tile<true, false>);
      project(t, r.project, first, count, r.hidden_blocks, s.blocks_out, pixels_out, r.projected, residual, oi,
              out_block);
    }
  }
}

}  // namespace nasfast::NASFAST_ISA::inline child_eval_cpu
