// CPU kernels of the mixed op, compiled once per instruction set (NASFAST_ISA names it).
//
// Everything works on one image at a time, in the blocked layout of core/types.h, accumulates in float32 (float64 for
// float64) and in a fixed order: results do not depend on the number of threads that share the images out.
#include "../core/pool.h"
#include "conv_cpu.h"

namespace nasfast::NASFAST_ISA {
namespace {

NASFAST_INLINE int lanes_of(int C, int block) { return C - block * kLanes < kLanes ? C - block * kLanes : kLanes; }

template <class A>
NASFAST_INLINE void zero_pad(A* row, int W, int pad) {
  for (int p = 0; p < pad; ++p) {
    store(row + p * kLanes, Vec<A>{});
    store(row + (pad + W + p) * kLanes, Vec<A>{});
  }
}

template <class S>
void load_state(const S* x, ptrdiff_t pixel_stride, int C, int H, int W, int pad, acc_t<S>* raw, acc_t<S>* relu) {
  using A = acc_t<S>;
  const int Wp = W + 2 * pad;
  for (int b = 0; b < blocks_of(C); ++b) {
    const int lanes = lanes_of(C, b);
    for (int y = 0; y < H; ++y) {
      const S* in = x + static_cast<ptrdiff_t>(y) * W * pixel_stride + b * kLanes;
      A* raw_row = raw ? raw + (static_cast<ptrdiff_t>(b) * H + y) * W * kLanes : nullptr;
      A* relu_row = relu ? relu + (static_cast<ptrdiff_t>(b) * H + y) * Wp * kLanes : nullptr;
      if (relu_row) zero_pad(relu_row, W, pad);
      for (int p = 0; p < W; ++p) {
        const Vec<A> v = load_part(in + p * pixel_stride, lanes);
        if (raw_row) store(raw_row + p * kLanes, v);
        if (relu_row) store(relu_row + (pad + p) * kLanes, zero_below<A>(v));
      }
    }
  }
}

template <class S>
void load_affine(const S* y, const acc_t<S>* scale, const acc_t<S>* shift, bool relu, int C, int H, int W, int pad,
                 acc_t<S>* dst) {
  using A = acc_t<S>;
  for (int b = 0; b < blocks_of(C); ++b) {
    const int lanes = lanes_of(C, b);
    const Vec<A> a = load(scale + b * kLanes), s = load(shift + b * kLanes);
    for (int r = 0; r < H; ++r) {
      zero_pad(dst, W, pad);
      for (int p = 0; p < W; ++p, y += kLanes) {
        Vec<A> v = a * load(y) + s;
        if (lanes < kLanes) v = join_lanes<A>(lanes, v, Vec<A>{});
        store(dst + (pad + p) * kLanes, relu ? zero_below<A>(v) : v);
      }
      dst += static_cast<ptrdiff_t>(W + 2 * pad) * kLanes;
    }
  }
}

constexpr int kBand = 128;  // pixels summed on their own, so that float32 sums of a large image stay short

// A sum that keeps what rounding loses (Neumaier without the branch: the total is the larger by far).
template <class A>
struct LongSum {
  Vec<A> total = {}, lost = {};
  NASFAST_INLINE void add(Vec<A> v) {
    const Vec<A> next = total + v;
    lost += v - (next - total);
    total = next;
  }
};

template <class S>
void shifted_stats(const S* y, int pixels, int blocks, acc_t<S>* stats) {
  using A = acc_t<S>;
  for (int b = 0; b < blocks; ++b) {
    const S* yb = y + static_cast<ptrdiff_t>(b) * pixels * kLanes;
    const Vec<A> k = load(yb);
    LongSum<A> s, q;
    for (int band = 0; band < pixels; band += kBand) {
      const int end = band + kBand < pixels ? band + kBand : pixels;
      Vec<A> s0 = {}, q0 = {}, s1 = {}, q1 = {};
      int p = band;
      for (; p + 2 <= end; p += 2) {
        const Vec<A> t0 = load(yb + p * kLanes) - k, t1 = load(yb + (p + 1) * kLanes) - k;
        s0 += t0;
        q0 += t0 * t0;
        s1 += t1;
        q1 += t1 * t1;
      }
      if (p < end) {
        const Vec<A> t = load(yb + p * kLanes) - k;
        s0 += t;
        q0 += t * t;
      }
      s.add(s0 + s1);
      q.add(q0 + q1);
    }
    store(stats + b * kLanes, k);
    store(stats + (blocks + b) * kLanes, s.total + s.lost);
    store(stats + (2 * blocks + b) * kLanes, q.total + q.lost);
  }
}

template <class S>
void pools_forward(const acc_t<S>* raw, int blocks, int H, int W, int stride, int h, int w, S* average, S* maximum,
                   acc_t<S>* average_stats, acc_t<S>* maximum_stats, uint8_t* tap) {
  const ptrdiff_t in = static_cast<ptrdiff_t>(H) * W * kLanes, out = static_cast<ptrdiff_t>(h) * w * kLanes;
  for (int b = 0; b < blocks; ++b) {
    if (tap)
      pool_forward<true>(raw + b * in, H, W, stride, h, w, average + b * out, maximum + b * out, tap + b * out);
    else
      pool_forward<false>(raw + b * in, H, W, stride, h, w, average + b * out, maximum + b * out, nullptr);
  }
  if (average_stats) shifted_stats(average, h * w, blocks, average_stats);
  if (maximum_stats) shifted_stats(maximum, h * w, blocks, maximum_stats);
}

template <class A>
void pools_backward(const A* g_average, const A* g_maximum, const uint8_t* tap, int blocks, int H, int W, int stride,
                    int h, int w, A* g_raw) {
  const ptrdiff_t in = static_cast<ptrdiff_t>(H) * W * kLanes, out = static_cast<ptrdiff_t>(h) * w * kLanes;
  for (int b = 0; b < blocks; ++b)
    pool_backward(g_average ? g_average + b * out : nullptr, g_maximum ? g_maximum + b * out : nullptr, tap + b * out,
                  H, W, stride, h, w, g_raw + b * in);
}

template <class S, int PIXELS>
NASFAST_INLINE void node_tile(const NodeInput<S>* inputs, int n, const SkipInput<S>* skips, int skip_count,
                              const acc_t<S>* shift, int block, int lanes, ptrdiff_t blocked_at, int first, S* out,
                              ptrdiff_t out_stride) {
  using A = acc_t<S>;
  Vec<A> acc[PIXELS];
  const Vec<A> start = load(shift + block * kLanes);
#pragma GCC unroll 8
  for (int m = 0; m < PIXELS; ++m) acc[m] = start;
  for (int i = 0; i < n; ++i) {
    const Vec<A> scale = load(inputs[i].scale + block * kLanes);
    const S* y = inputs[i].y + blocked_at;
#pragma GCC unroll 8
    for (int m = 0; m < PIXELS; ++m) acc[m] += scale * load(y + m * kLanes);
  }
  for (int i = 0; i < skip_count; ++i) {
    const Vec<A> weight = broadcast<A>(skips[i].weight);
    const S* x = skips[i].x + first * skips[i].pixel_stride + block * kLanes;
#pragma GCC unroll 8
    for (int m = 0; m < PIXELS; ++m) acc[m] += weight * load_part(x + m * skips[i].pixel_stride, lanes);
  }
#pragma GCC unroll 8
  for (int m = 0; m < PIXELS; ++m) store_part(out + (first + m) * out_stride + block * kLanes, acc[m], lanes);
}

template <class S>
void node_sum(const NodeInput<S>* inputs, int n, const SkipInput<S>* skips, int skip_count, const acc_t<S>* shift,
              int C, int pixels, S* out, ptrdiff_t out_stride) {
  constexpr int kTile = 8;
  for (int b = 0; b < blocks_of(C); ++b) {
    const ptrdiff_t base = static_cast<ptrdiff_t>(b) * pixels * kLanes;
    const int lanes = lanes_of(C, b);
    int p = 0;
    for (; p + kTile <= pixels; p += kTile)
      node_tile<S, kTile>(inputs, n, skips, skip_count, shift, b, lanes, base + p * kLanes, p, out, out_stride);
    for (; p < pixels; ++p)
      node_tile<S, 1>(inputs, n, skips, skip_count, shift, b, lanes, base + p * kLanes, p, out, out_stride);
  }
}

template <class A, class F>
NASFAST_INLINE Vec<A> banded_sum(int pixels, const F& value) {
  Vec<A> total = {};
  for (int band = 0; band < pixels; band += kBand) {
    const int end = band + kBand < pixels ? band + kBand : pixels;
    Vec<A> s0 = {}, s1 = {};
    int p = band;
    for (; p + 2 <= end; p += 2) {
      s0 += value(p);
      s1 += value(p + 1);
    }
    if (p < end) s0 += value(p);
    total += s0 + s1;
  }
  return total;
}

// Sums of g * y for four images y at a time, so that g is read from the cache and every y once.
template <class S, int GROUP>
NASFAST_INLINE void product_group(const acc_t<S>* g, const S* const* ys, ptrdiff_t at, int pixels, acc_t<S>* sums,
                                  ptrdiff_t sum_stride) {
  using A = acc_t<S>;
  Vec<A> total[GROUP] = {};
  for (int band = 0; band < pixels; band += kBand) {
    const int end = band + kBand < pixels ? band + kBand : pixels;
    Vec<A> acc[GROUP][2] = {};
    int p = band;
    for (; p + 2 <= end; p += 2)
#pragma GCC unroll 2
      for (int u = 0; u < 2; ++u) {
        const Vec<A> v = load(g + (p + u) * kLanes);
#pragma GCC unroll 4
        for (int i = 0; i < GROUP; ++i) acc[i][u] += v * load(ys[i] + at + (p + u) * kLanes);
      }
    if (p < end)
#pragma GCC unroll 4
      for (int i = 0; i < GROUP; ++i) acc[i][0] += load(g + p * kLanes) * load(ys[i] + at + p * kLanes);
#pragma GCC unroll 4
    for (int i = 0; i < GROUP; ++i) total[i] += acc[i][0] + acc[i][1];
  }
#pragma GCC unroll 4
  for (int i = 0; i < GROUP; ++i) store(sums + i * sum_stride, total[i]);
}

template <class S>
void products(const acc_t<S>* g, const S* const* ys, int n, const SkipInput<S>* skips, int skip_count, int C,
              int pixels, acc_t<S>* sums) {
  using A = acc_t<S>;
  const int blocks = blocks_of(C);
  const ptrdiff_t stride = static_cast<ptrdiff_t>(blocks) * kLanes;
  for (int b = 0; b < blocks; ++b) {
    const ptrdiff_t at = static_cast<ptrdiff_t>(b) * pixels * kLanes;
    const A* gb = g + at;
    store(sums + b * kLanes, banded_sum<A>(pixels, [&](int p) { return load(gb + p * kLanes); }));
    A* out = sums + stride + b * kLanes;
    int i = 0;
    for (; i + 4 <= n; i += 4) product_group<S, 4>(gb, ys + i, at, pixels, out + i * stride, stride);
    for (; i < n; ++i) product_group<S, 1>(gb, ys + i, at, pixels, out + i * stride, stride);
    for (int k = 0; k < skip_count; ++k) {
      const S* x = skips[k].x + b * kLanes;
      const int lanes = lanes_of(C, b);
      store(out + (n + k) * stride, banded_sum<A>(pixels, [&](int p) {
              return load(gb + p * kLanes) * load_part(x + p * skips[k].pixel_stride, lanes);
            }));
    }
  }
}

template <class S>
void add_grad(const GradSource<S>& source, int blocks, int pixels, acc_t<S>* out) {
  using A = acc_t<S>;
  for (int b = 0; b < blocks; ++b) {
    const Vec<A> a = load(source.a + b * kLanes);
    const Vec<A> k = source.y ? load(source.b + b * kLanes) : Vec<A>{};
    const Vec<A> c = source.y ? load(source.c + b * kLanes) : Vec<A>{};
    const ptrdiff_t at = static_cast<ptrdiff_t>(b) * pixels * kLanes;
    for (ptrdiff_t p = at; p < at + static_cast<ptrdiff_t>(pixels) * kLanes; p += kLanes) {
      Vec<A> v = a * load(source.g + p) + c;
      if (source.y) v += k * load(source.y + p);
      store(out + p, load(out + p) + v);
    }
  }
}

template <class S>
void mask_grad(const acc_t<S>* gv, const acc_t<S>* v, const S* y, int blocks, int H, int W, int pad, acc_t<S>* gz,
               acc_t<S>* sums) {
  using A = acc_t<S>;
  for (int b = 0; b < blocks; ++b) {
    Vec<A> total = {}, dot = {};
    for (int r = 0; r < H; ++r) {
      const ptrdiff_t row = ((static_cast<ptrdiff_t>(b) * H + r) * (W + 2 * pad) + pad) * kLanes;
      const ptrdiff_t out = (static_cast<ptrdiff_t>(b) * H + r) * W * kLanes;
      Vec<A> row_total = {}, row_dot = {};
      for (int p = 0; p < W * kLanes; p += kLanes) {
        Vec<A> g = load(gv + row + p);
        if (v) g = below_relu<A>(g, load(v + row + p));
        store(gz + out + p, g);
        row_total += g;
        row_dot += g * load(y + out + p);
      }
      total += row_total;
      dot += row_dot;
    }
    store(sums + b * kLanes, total);
    store(sums + (blocks + b) * kLanes, dot);
  }
}

template <class S>
void state_grad(const acc_t<S>* relu, const acc_t<S>* g_relu, const acc_t<S>* g_raw, const acc_t<S>* const* skip_g,
                const acc_t<S>* skip_w, int skips, const S* extra, ptrdiff_t extra_stride, int C, int H, int W, int pad,
                acc_t<S>* blocked, S* out, ptrdiff_t out_stride) {
  using A = acc_t<S>;
  for (int b = 0; b < blocks_of(C); ++b) {
    const int lanes = lanes_of(C, b);
    for (int y = 0; y < H; ++y) {
      const ptrdiff_t padded = ((static_cast<ptrdiff_t>(b) * H + y) * (W + 2 * pad) + pad) * kLanes;
      const ptrdiff_t plain = (static_cast<ptrdiff_t>(b) * H + y) * W * kLanes;
      for (int x = 0; x < W; ++x) {
        const int p = x * kLanes;
        const ptrdiff_t pixel = static_cast<ptrdiff_t>(y) * W + x;
        Vec<A> v = {};
        if (g_relu) v = below_relu<A>(load(g_relu + padded + p), load(relu + padded + p));
        if (g_raw) v += load(g_raw + plain + p);
        for (int k = 0; k < skips; ++k) v += broadcast<A>(skip_w[k]) * load(skip_g[k] + plain + p);
        if (extra) v += load_part(extra + pixel * extra_stride + b * kLanes, lanes);
        if (blocked) store(blocked + plain + p, v);
        if (out) store_part(out + pixel * out_stride + b * kLanes, v, lanes);
      }
    }
  }
}

}  // namespace

template <class S>
const KernelTable<S>& mixed_op_kernels() {
  static constexpr KernelTable<S> table = {
      load_state<S>, load_affine<S>, conv_forward<S>, conv_backward<S>, pools_forward<S>, pools_backward<acc_t<S>>,
      node_sum<S>,   products<S>,    add_grad<S>,     mask_grad<S>,     state_grad<S>,
  };
  return table;
}

template const KernelTable<float>& mixed_op_kernels<float>();
template const KernelTable<double>& mixed_op_kernels<double>();
template const KernelTable<bf16>& mixed_op_kernels<bf16>();

}  // namespace nasfast::NASFAST_ISA
