// Depthwise convolution of a slice and its two gradients, on the row kernels of core/depthwise.h: one block of one
// image at a time, with zero columns around it.
#pragma once

#include "../core/depthwise.h"
#include "conv_cpu.h"

namespace nasfast::NASFAST_ISA::inline supernet_cpu {

template <class A>
void depthwise(const ConvShape& s, const Read<A>& x, const A* w, A* scratch, A* out) {
  const auto row = depthwise_fns<A>(s.kernel, s.stride, s.dilation).row;
  const int pad = s.pad(), taps = s.kernel * s.kernel;
  const ptrdiff_t x_block = block_stride(s.pixels_in()), out_block = block_stride(s.pixels_out());
  for (int b = 0; b < s.blocks_in; ++b) {
    const Finish<A> f(x, b);
    for (int n = 0; n < s.images; ++n) {
      pad_block(x.x + b * x_block + static_cast<ptrdiff_t>(n) * s.H * s.W * kLanes, f, s.H, s.W, 0, pad, scratch);
      A* to = out + b * out_block + static_cast<ptrdiff_t>(n) * s.h * s.w * kLanes;
      for (int oy = 0; oy < s.h; ++oy)
        row(scratch, s.H, s.W + 2 * pad, 0, pad, w + b * taps * kLanes, oy, s.w,
            to + static_cast<ptrdiff_t>(oy) * s.w * kLanes);
    }
  }
}

template <class A>
void depthwise_input_grad(const ConvShape& s, const A* dy, const A* w, const Read<A>& x, bool add, A* scratch, A* gx) {
  const auto& fns = depthwise_fns<A>(s.kernel, s.stride, s.dilation);
  const int pad = s.pad(), taps = s.kernel * s.kernel, Wg = s.w + 2 * pad, Wp = s.W + 2 * pad;
  const ptrdiff_t x_block = block_stride(s.pixels_in()), dy_block = block_stride(s.pixels_out());
  A* g = scratch;  // [h][Wg][8], or, at stride 2, [H][Wp][8] of the input
  A* line = scratch + static_cast<ptrdiff_t>(s.h) * Wg * kLanes;  // one row of the input's gradient
  const Finish<A> as_it_is(Read<A>{}, 0);
  for (int b = 0; b < s.blocks_in; ++b) {
    const GradInto<A> into(x, b, x_block, gx, add);
    for (int n = 0; n < s.images; ++n) {
      const A* from = dy + b * dy_block + static_cast<ptrdiff_t>(n) * s.h * s.w * kLanes;
      const ptrdiff_t at = static_cast<ptrdiff_t>(n) * s.H * s.W * kLanes;
      if (s.stride == 1) {
        pad_block(from, as_it_is, s.h, s.w, 0, pad, g);
      } else {
        clear(g, static_cast<ptrdiff_t>(s.H) * Wp);
        fns.scatter(from, s.w, 0, s.h, s.w, w + b * taps * kLanes, g, s.H, Wp, 0, pad);
      }
      for (int y = 0; y < s.H; ++y) {
        const A* row = g + (static_cast<ptrdiff_t>(y) * Wp + pad) * kLanes;
        if (s.stride == 1) {
          fns.grad_row(g, s.h, Wg, 0, pad, w + b * taps * kLanes, y, s.W, line);
          row = line;
        }
        for (int i = 0; i < s.W; ++i) into(at + (static_cast<ptrdiff_t>(y) * s.W + i) * kLanes, load(row + i * kLanes));
      }
    }
  }
}

template <class A>
void depthwise_weight_grad(const ConvShape& s, const Read<A>& x, const A* dy, int first, int blocks, A* scratch,
                           A* gw) {
  const auto weight_grad = depthwise_fns<A>(s.kernel, s.stride, s.dilation).weight_grad;
  const int pad = s.pad(), taps = s.kernel * s.kernel;
  const ptrdiff_t x_block = block_stride(s.pixels_in()), dy_block = block_stride(s.pixels_out());
  for (int b = 0; b < blocks; ++b) {
    const Finish<A> f(x, first + b);
    for (int n = 0; n < s.images; ++n) {
      pad_block(x.x + (first + b) * x_block + static_cast<ptrdiff_t>(n) * s.H * s.W * kLanes, f, s.H, s.W, 0, pad,
                scratch);
      weight_grad(scratch, s.H, s.W + 2 * pad, 0, pad,
                  dy + (first + b) * dy_block + static_cast<ptrdiff_t>(n) * s.h * s.w * kLanes, s.w, 0, s.h, s.w,
                  gw + b * taps * kLanes);
    }
  }
}

}  // namespace nasfast::NASFAST_ISA::inline supernet_cpu
