// 3x3 pooling with padding 1 of one channel block, [H][W][8] -> [h][w][8].
//
// Average: the padding is not counted. Maximum: ties go to the first tap in row-major order and NaN wins, as in torch.
#pragma once

#include "simd.h"

namespace nasfast::NASFAST_ISA {

inline constexpr int kPool = 3;

struct Window {
  int y0, y1, x0, x1;  // valid input rows and columns, end exclusive
  int top, left;       // input position of tap (0, 0), possibly outside
  NASFAST_INLINE int count() const { return (y1 - y0) * (x1 - x0); }
};

NASFAST_INLINE Window pool_window(int oy, int ox, int stride, int H, int W) {
  const int top = oy * stride - 1, left = ox * stride - 1;
  return {top < 0 ? 0 : top,
          top + kPool > H ? H : top + kPool,
          left < 0 ? 0 : left,
          left + kPool > W ? W : left + kPool,
          top,
          left};
}

template <class A>
struct Pooled {
  Vec<A> sum = {}, best = broadcast<A>(-static_cast<A>(__builtin_inf()));
  typename VecOf<A>::mask tap = {};

  template <bool TAPS>
  NASFAST_INLINE void take(Vec<A> v, int index) {
    using Mask = typename VecOf<A>::mask;
    sum += v;
    const Mask newer = (v > best) | (v != v);
    best = newer ? v : best;
    if constexpr (TAPS) tap = newer ? Mask{} + index : tap;
  }
};

// A window that may reach over the border, and one that does not, which unrolls.
template <bool TAPS, class A>
NASFAST_INLINE Pooled<A> pool_border(const A* x, int W, const Window& win) {
  Pooled<A> out;
  out.tap += (win.y0 - win.top) * kPool + win.x0 - win.left;
  for (int y = win.y0; y < win.y1; ++y)
    for (int xx = win.x0; xx < win.x1; ++xx)
      out.template take<TAPS>(load(x + (static_cast<ptrdiff_t>(y) * W + xx) * kLanes),
                              (y - win.top) * kPool + xx - win.left);
  return out;
}

template <bool TAPS, class A>
NASFAST_INLINE Pooled<A> pool_inside(const A* corner, int W) {
  Pooled<A> out;
#pragma GCC unroll 3
  for (int y = 0; y < kPool; ++y)
#pragma GCC unroll 3
    for (int xx = 0; xx < kPool; ++xx)
      out.template take<TAPS>(load(corner + (static_cast<ptrdiff_t>(y) * W + xx) * kLanes), y * kPool + xx);
  return out;
}

// `tap` receives the index 3*ky + kx of the maximum, one byte a lane.
template <bool TAPS, class A, class S>
void pool_forward(const A* x, int H, int W, int stride, int h, int w, S* average, S* maximum, uint8_t* tap) {
  typedef uint8_t u8x8 __attribute__((vector_size(8)));
  for (int oy = 0; oy < h; ++oy) {
    for (int ox = 0; ox < w; ++ox) {
      const Window win = pool_window(oy, ox, stride, H, W);
      const bool inside = win.count() == kPool * kPool;
      const Pooled<A> r = inside ? pool_inside<TAPS>(x + (static_cast<ptrdiff_t>(win.top) * W + win.left) * kLanes, W)
                                 : pool_border<TAPS>(x, W, win);
      const ptrdiff_t o = (static_cast<ptrdiff_t>(oy) * w + ox) * kLanes;
      store(average + o, r.sum / broadcast<A>(static_cast<A>(win.count())));
      store(maximum + o, r.best);
      if constexpr (TAPS) {
        const u8x8 bytes = __builtin_convertvector(r.tap, u8x8);
        std::memcpy(tap + o, &bytes, sizeof(bytes));
      }
    }
  }
}

// gx += the gradients of both pools. Either gradient may be null.
template <class A>
void pool_backward(const A* g_average, const A* g_maximum, const uint8_t* tap, int H, int W, int stride, int h, int w,
                   A* gx) {
  using Mask = typename VecOf<A>::mask;
  typedef uint8_t u8x8 __attribute__((vector_size(8)));
  for (int oy = 0; oy < h; ++oy) {
    for (int ox = 0; ox < w; ++ox) {
      const Window win = pool_window(oy, ox, stride, H, W);
      const ptrdiff_t o = (static_cast<ptrdiff_t>(oy) * w + ox) * kLanes;
      const Vec<A> share = g_average ? load(g_average + o) / broadcast<A>(static_cast<A>(win.count())) : Vec<A>{};
      const Vec<A> top = g_maximum ? load(g_maximum + o) : Vec<A>{};
      u8x8 bytes;
      std::memcpy(&bytes, tap + o, sizeof(bytes));
      const Mask arg = __builtin_convertvector(bytes, Mask);
      for (int y = win.y0; y < win.y1; ++y) {
        for (int xx = win.x0; xx < win.x1; ++xx) {
          A* p = gx + (static_cast<ptrdiff_t>(y) * W + xx) * kLanes;
          const Mask here = arg == Mask{} + ((y - win.top) * kPool + xx - win.left);
          store(p, load(p) + share + (here ? top : Vec<A>{}));
        }
      }
    }
  }
}

}  // namespace nasfast::NASFAST_ISA
