// 3x3 pooling with padding 1 of one channel block, [H][W][8] -> [h][w][8].
//
// Average: the padding is not counted. Maximum: ties go to the first tap in row-major order and NaN wins, as in torch.
// Windows are reduced along their rows first, which neighbouring output rows share, then across; in that order the
// first maximum of the first row that holds it is the first in row-major order.
#pragma once

#include "simd.h"

namespace nasfast::NASFAST_ISA {

inline constexpr int kPool = 3;
inline constexpr int kPoolColumns = 32;  // output columns worked on at a time, so that three rows fit on the stack

// Taps of a window that lie inside an axis of `size`: [first, last).
struct TapRange {
  int first, last;
  NASFAST_INLINE int count() const { return last - first; }
};

NASFAST_INLINE TapRange pool_taps(int out, int stride, int size) {
  const int start = out * stride - 1;
  return {start < 0 ? 1 : 0, start + kPool > size ? size - start : kPool};
}

// One window's reduction: the sum, the maximum, and which tap it is.
template <class A>
struct Pooled {
  Vec<A> sum, best;
  typename VecOf<A>::mask tap;
};

template <bool TAPS, class A>
NASFAST_INLINE void pool_take(Pooled<A>& to, Vec<A> sum, Vec<A> v, typename VecOf<A>::mask tap) {
  to.sum += sum;
  const typename VecOf<A>::mask newer = (v > to.best) | (v != v);
  to.best = newer ? v : to.best;
  if constexpr (TAPS) to.tap = newer ? tap : to.tap;
}

// Windows of one input row, for output columns [first, first + count).
template <bool TAPS, class A>
NASFAST_INLINE void pool_row(const A* row, int W, int stride, int first, int count, Pooled<A>* out) {
  using Mask = typename VecOf<A>::mask;
  const auto window = [&](int ox, TapRange taps) {
    const A* p = row + (ox * stride - 1) * kLanes;
    const Vec<A> v = load(p + taps.first * kLanes);
    Pooled<A> r{v, v, Mask{} + taps.first};
#pragma GCC unroll 3
    for (int k = taps.first + 1; k < taps.last; ++k) {
      const Vec<A> next = load(p + k * kLanes);
      pool_take<TAPS>(r, next, next, Mask{} + k);
    }
    return r;
  };
  for (int i = 0; i < count; ++i) {
    const TapRange taps = pool_taps(first + i, stride, W);
    out[i] = taps.count() == kPool ? window(first + i, {0, kPool}) : window(first + i, taps);
  }
}

// `tap` receives the index 3*ky + kx of the maximum, one byte a lane.
template <bool TAPS, class A, class S>
void pool_forward(const A* x, int H, int W, int stride, int h, int w, S* average, S* maximum, uint8_t* tap) {
  typedef uint8_t u8x8 __attribute__((vector_size(8)));
  Pooled<A> rows[kPool][kPoolColumns];  // of input row y at y % 3
  for (int first = 0; first < w; first += kPoolColumns) {
    const int count = w - first < kPoolColumns ? w - first : kPoolColumns;
    int done = 0;  // input rows reduced so far
    for (int oy = 0; oy < h; ++oy) {
      const int top = oy * stride - 1;
      const TapRange ky = pool_taps(oy, stride, H);
      for (; done < top + ky.last; ++done)
        pool_row<TAPS>(x + static_cast<ptrdiff_t>(done) * W * kLanes, W, stride, first, count, rows[done % kPool]);
      const Pooled<A>* line[kPool];
      for (int k = ky.first; k < ky.last; ++k) line[k] = rows[(top + k) % kPool];
      const ptrdiff_t base = (static_cast<ptrdiff_t>(oy) * w + first) * kLanes;
      for (int i = 0; i < count; ++i) {
        Pooled<A> r = line[ky.first][i];
        r.tap += ky.first * kPool;
        for (int k = ky.first + 1; k < ky.last; ++k)
          pool_take<TAPS>(r, line[k][i].sum, line[k][i].best, line[k][i].tap + k * kPool);
        const int cells = ky.count() * pool_taps(first + i, stride, W).count();
        const ptrdiff_t o = base + i * kLanes;
        store(average + o, r.sum * broadcast<A>(A(1) / static_cast<A>(cells)));
        store(maximum + o, r.best);
        if constexpr (TAPS) {
          const u8x8 bytes = __builtin_convertvector(r.tap, u8x8);
          std::memcpy(tap + o, &bytes, sizeof(bytes));
        }
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
    const TapRange ky = pool_taps(oy, stride, H);
    for (int ox = 0; ox < w; ++ox) {
      const TapRange kx = pool_taps(ox, stride, W);
      const int cells = ky.count() * kx.count();
      const ptrdiff_t o = (static_cast<ptrdiff_t>(oy) * w + ox) * kLanes;
      const Vec<A> share = g_average ? load(g_average + o) * broadcast<A>(A(1) / static_cast<A>(cells)) : Vec<A>{};
      const Vec<A> top = g_maximum ? load(g_maximum + o) : Vec<A>{};
      u8x8 bytes;
      std::memcpy(&bytes, tap + o, sizeof(bytes));
      const Mask arg = __builtin_convertvector(bytes, Mask);
      A* corner = gx + (static_cast<ptrdiff_t>(oy * stride - 1) * W + ox * stride - 1) * kLanes;
      const auto spread = [&](TapRange rows, TapRange columns) {
#pragma GCC unroll 3
        for (int y = rows.first; y < rows.last; ++y)
#pragma GCC unroll 3
          for (int x = columns.first; x < columns.last; ++x) {
            A* p = corner + (static_cast<ptrdiff_t>(y) * W + x) * kLanes;
            const Mask here = arg == Mask{} + (y * kPool + x);
            store(p, load(p) + share + (here ? top : Vec<A>{}));
          }
      };
      if (cells == kPool * kPool)
        spread({0, kPool}, {0, kPool});
      else
        spread(ky, kx);
    }
  }
}

}  // namespace nasfast::NASFAST_ISA
