// CPU kernels of the supernet's training step, one instruction set.
#include "conv_cpu.h"
#include "depthwise_cpu.h"

namespace nasfast::NASFAST_ISA {
namespace {

constexpr int kRun = 128;  // pixels summed on their own, so that sums of a large image stay short

template <bool MAXIMUM, class A>
NASFAST_INLINE Vec<A> join(Vec<A> a, Vec<A> b) {
  if constexpr (MAXIMUM) return ((b > a) | (b != b)) ? b : a;
  return a + b;
}

// Taps of a window that lie inside an axis: [first, last).
struct Window {
  int start, first, last;
  NASFAST_INLINE Window(int out, int stride, int kernel, int size) : start(out * stride - (kernel == 3 ? 1 : 0)) {
    first = start < 0 ? -start : 0;
    last = start + kernel > size ? size - start : kernel;
  }
  NASFAST_INLINE int count() const { return last - first; }
};

// One image's block: columns of a window first, which neighbouring windows share, then rows of those.
template <bool MAXIMUM, class A>
void pool_block(const ConvShape& s, const A* x, A* line, A* out) {
  for (int oy = 0; oy < s.h; ++oy) {
    const Window wy(oy, s.stride, s.kernel, s.H);
    for (int c = 0; c < s.W; ++c) {
      const A* p = x + (static_cast<ptrdiff_t>(wy.start + wy.first) * s.W + c) * kLanes;
      Vec<A> v = load(p);
      for (int y = wy.first + 1; y < wy.last; ++y)
        v = join<MAXIMUM, A>(v, load(p += static_cast<ptrdiff_t>(s.W) * kLanes));
      store(line + c * kLanes, v);
    }
    for (int ox = 0; ox < s.w; ++ox, out += kLanes) {
      const Window wx(ox, s.stride, s.kernel, s.W);
      const A* p = line + (wx.start + wx.first) * kLanes;
      Vec<A> v = load(p);
      for (int c = 1; c < wx.count(); ++c) v = join<MAXIMUM, A>(v, load(p + c * kLanes));
      if constexpr (!MAXIMUM) v = v * broadcast<A>(A(1) / static_cast<A>(wx.count() * wy.count()));
      store(out, v);
    }
  }
}

// The block of an image as it is read: in place where that is how it is stored.
template <class A>
NASFAST_INLINE const A* read_block(const Read<A>& x, int block, ptrdiff_t at, int pixels, A* scratch) {
  if (x.plain()) return x.x + at;
  const Finish<A> f(x, block);
  for (int p = 0; p < pixels; ++p) store(scratch + p * kLanes, f(load(x.x + at + p * kLanes)));
  return scratch;
}

template <class A>
void pool(const ConvShape& s, PoolKind kind, const Read<A>& x, A* scratch, A* out) {
  const int pixels = s.H * s.W;
  A* line = scratch + static_cast<ptrdiff_t>(pixels) * kLanes;
  for (int b = 0; b < s.blocks_in; ++b)
    for (int n = 0; n < s.images; ++n) {
      const ptrdiff_t at = b * block_stride(s.pixels_in()) + static_cast<ptrdiff_t>(n) * pixels * kLanes;
      A* to = out + b * block_stride(s.pixels_out()) + static_cast<ptrdiff_t>(n) * s.h * s.w * kLanes;
      const auto run = kind == PoolKind::kMaximum ? pool_block<true, A> : pool_block<false, A>;
      run(s, read_block(x, b, at, pixels, scratch), line, to);
    }
}

// The gradient of each window goes to all its pixels, or to the first that holds its maximum.
template <bool MAXIMUM, class A>
void pool_grad_block(const ConvShape& s, const A* x, const A* dy, A* gx) {
  using M = typename VecOf<A>::mask;
  for (int oy = 0; oy < s.h; ++oy) {
    const Window wy(oy, s.stride, s.kernel, s.H);
    for (int ox = 0; ox < s.w; ++ox, dy += kLanes) {
      const Window wx(ox, s.stride, s.kernel, s.W);
      const Vec<A> g = load(dy);
      const ptrdiff_t corner = (static_cast<ptrdiff_t>(wy.start) * s.W + wx.start) * kLanes;
      const auto each = [&](auto&& visit) {
        for (int y = wy.first; y < wy.last; ++y)
          for (int c = wx.first; c < wx.last; ++c)
            visit(corner + (static_cast<ptrdiff_t>(y) * s.W + c) * kLanes, y * s.kernel + c);
      };
      if constexpr (MAXIMUM) {
        Vec<A> best = broadcast<A>(-std::numeric_limits<A>::infinity());
        M tap = M{} + (wy.first * s.kernel + wx.first);
        each([&](ptrdiff_t at, int t) {
          const Vec<A> v = load(x + at);
          const M newer = (v > best) | (v != v);
          best = newer ? v : best;
          tap = newer ? M{} + t : tap;
        });
        each([&](ptrdiff_t at, int t) { store(gx + at, load(gx + at) + ((tap == M{} + t) ? g : Vec<A>{})); });
      } else {
        const Vec<A> share = g * broadcast<A>(A(1) / static_cast<A>(wx.count() * wy.count()));
        each([&](ptrdiff_t at, int) { store(gx + at, load(gx + at) + share); });
      }
    }
  }
}

// `then` of what a pool reads is none: the front admits no other.
template <class A>
void pool_grad(const ConvShape& s, PoolKind kind, const Read<A>& x, const A* dy, bool add, A* scratch, A* gx) {
  const int pixels = s.H * s.W;
  for (int b = 0; b < s.blocks_in; ++b)
    for (int n = 0; n < s.images; ++n) {
      const ptrdiff_t at = b * block_stride(s.pixels_in()) + static_cast<ptrdiff_t>(n) * pixels * kLanes;
      const A* g = dy + b * block_stride(s.pixels_out()) + static_cast<ptrdiff_t>(n) * s.h * s.w * kLanes;
      if (!add) clear(gx + at, pixels);
      if (kind == PoolKind::kMaximum)
        pool_grad_block<true>(s, read_block(x, b, at, pixels, scratch), g, gx + at);
      else
        pool_grad_block<false, A>(s, nullptr, g, gx + at);
    }
}

template <class A, int COUNT>
void combine_block(int block, int pixels, const Read<A>* terms, int count, A* out) {
  constexpr int kMost = COUNT ? COUNT : 1;
  const ptrdiff_t base = block * block_stride(pixels);
  if constexpr (COUNT > 0) {
    const Finish<A> first(terms[0], block), second(terms[kMost > 1 ? 1 : 0], block), third(terms[kMost - 1], block);
    for (ptrdiff_t i = base; i < base + static_cast<ptrdiff_t>(pixels) * kLanes; i += kLanes) {
      Vec<A> v = first(load(terms[0].x + i));
      if constexpr (COUNT > 1) v += second(load(terms[1].x + i));
      if constexpr (COUNT > 2) v += third(load(terms[2].x + i));
      store(out + i, v);
    }
  } else {
    for (int k = 0; k < count; ++k) {
      const Finish<A> f(terms[k], block);
      for (ptrdiff_t i = base; i < base + static_cast<ptrdiff_t>(pixels) * kLanes; i += kLanes) {
        const Vec<A> v = f(load(terms[k].x + i));
        store(out + i, k ? load(out + i) + v : v);
      }
    }
  }
}

template <class A>
void combine(int blocks, int pixels, const Read<A>* terms, int count, A* out) {
  const auto run = count == 1   ? combine_block<A, 1>
                   : count == 2 ? combine_block<A, 2>
                   : count == 3 ? combine_block<A, 3>
                                : combine_block<A, 0>;
  for (int b = 0; b < blocks; ++b) run(b, pixels, terms, count, out);
}

template <class A>
void pass_grad(int blocks, int pixels, const A* g, const Read<A>& x, bool add, A* gx) {
  const ptrdiff_t block = block_stride(pixels);
  for (int b = 0; b < blocks; ++b) {
    const GradInto<A> into(x, b, block, gx, add);
    const A* from = g + b * block;
    for (ptrdiff_t i = 0; i < static_cast<ptrdiff_t>(pixels) * kLanes; i += kLanes) into(i, load(from + i));
  }
}

template <class A>
NASFAST_INLINE void add_lanes(double* to, Vec<A> v) {
  for (int i = 0; i < kLanes; ++i) to[i] += static_cast<double>(v[i]);
}

// f(pixel) summed over runs in the element type, the runs in float64.
template <class A, class F>
NASFAST_INLINE void long_sum(int pixels, double* to, const F& f) {
  for (int first = 0; first < pixels; first += kRun) {
    const int end = first + kRun < pixels ? first + kRun : pixels;
    Vec<A> s = {}, t = {};
    int p = first;
    for (; p + 2 <= end; p += 2) {
      s += f(p);
      t += f(p + 1);
    }
    if (p < end) s += f(p);
    add_lanes<A>(to, s + t);
  }
}

template <class A>
void moments(int blocks, int pixels, const A* x, double* mean, double* squares) {
  for (int b = 0; b < blocks; ++b) {
    const A* p = x + b * block_stride(pixels);
    double total[kLanes] = {}, square[kLanes] = {};
    long_sum<A>(pixels, total, [&](int q) { return load(p + q * kLanes); });
    A centre[kLanes];
    for (int i = 0; i < kLanes; ++i) {
      mean[b * kLanes + i] = total[i] / pixels;
      centre[i] = static_cast<A>(total[i] / pixels);
    }
    const Vec<A> c = load(centre);
    long_sum<A>(pixels, square, [&](int q) {
      const Vec<A> t = load(p + q * kLanes) - c;
      return t * t;
    });
    for (int i = 0; i < kLanes; ++i) {
      const double off = mean[b * kLanes + i] - static_cast<double>(centre[i]);
      squares[b * kLanes + i] = square[i] - pixels * off * off;
    }
  }
}

template <class A>
void norm_sums(int blocks, int pixels, const A* g, const Read<A>& y, const A* mean, double* sums) {
  const ptrdiff_t block = block_stride(pixels);
  for (int b = 0; b < blocks; ++b) {
    const Finish<A> f(y, b, false);
    const Mask<A> mask(y.act);
    const Vec<A> centre = mean ? load(mean + b * kLanes) : Vec<A>{};
    const A *gb = g + b * block, *yb = y.x + b * block;
    double *s0 = sums + b * kLanes, *s1 = s0 + blocks * kLanes;
    for (int first = 0; first < pixels; first += kRun) {
      const int end = first + kRun < pixels ? first + kRun : pixels;
      Vec<A> s = {}, d = {}, s2 = {}, d2 = {};
      const auto visit = [&](int p, Vec<A>& total, Vec<A>& dot) {
        const Vec<A> v = load(yb + p * kLanes);
        Vec<A> gz = load(gb + p * kLanes);
        if (y.act != Act::kNone) gz = mask(gz, v * f.scale + f.shift);
        total += gz;
        dot += gz * (v - centre);
      };
      int p = first;
      for (; p + 2 <= end; p += 2) {
        visit(p, s, d);
        visit(p + 1, s2, d2);
      }
      if (p < end) visit(p, s, d);
      add_lanes<A>(s0, s + s2);
      add_lanes<A>(s1, d + d2);
    }
  }
}

template <class A>
void norm_grad(int blocks, int pixels, const A* g, const Read<A>& y, const NormGrad<A>& n, A* dy) {
  const ptrdiff_t block = block_stride(pixels);
  for (int b = 0; b < blocks; ++b) {
    const Finish<A> f(y, b, false);
    const Mask<A> mask(y.act);
    const int c = b * kLanes;
    const Vec<A> scale = n.a ? load(n.a + c) : broadcast<A>(A(1));
    const bool centred = n.b != nullptr;
    const Vec<A> slope = centred ? load(n.b + c) : Vec<A>{}, shift = centred ? load(n.c + c) : Vec<A>{};
    const Vec<A> mean = centred ? load(n.mean + c) : Vec<A>{};
    for (ptrdiff_t i = b * block; i < b * block + static_cast<ptrdiff_t>(pixels) * kLanes; i += kLanes) {
      Vec<A> v = load(g + i);
      const Vec<A> at = load(y.x + i);
      if (y.act != Act::kNone) v = mask(v, at * f.scale + f.shift);
      v = scale * v;
      if (centred) v += slope * (at - mean) + shift;
      store(dy + i, v);
    }
  }
}

template <class A>
void head(int images, int blocks, int pixels, const Read<A>& x, const A* w, const A* bias, int classes, A* pooled,
          A* out, ptrdiff_t out_stride) {
  const ptrdiff_t x_block = block_stride(static_cast<int64_t>(images) * pixels);
  const Vec<A> share = broadcast<A>(A(1) / static_cast<A>(pixels));
  for (int n = 0; n < images; ++n, pooled += static_cast<ptrdiff_t>(blocks) * kLanes) {
    for (int b = 0; b < blocks; ++b) {
      const Finish<A> f(x, b);
      const A* p = x.x + b * x_block + static_cast<ptrdiff_t>(n) * pixels * kLanes;
      Vec<A> v = {};
      for (int q = 0; q < pixels; ++q) v += f(load(p + q * kLanes));
      store(pooled + b * kLanes, v * share);
    }
    for (int c = 0; c < classes; ++c) {
      Vec<A> v = {};
      for (int b = 0; b < blocks; ++b)
        v += load(pooled + b * kLanes) * load(w + (static_cast<ptrdiff_t>(c) * blocks + b) * kLanes);
      A total = bias[c];
      for (int i = 0; i < kLanes; ++i) total += v[i];
      out[n * out_stride + c] = total;
    }
  }
}

template <class A>
void head_input_grad(int images, int blocks, int pixels, const A* g, ptrdiff_t g_stride, const A* w, int classes,
                     bool add, A* scratch, A* gx) {
  const ptrdiff_t x_block = block_stride(static_cast<int64_t>(images) * pixels);
  const Vec<A> share = broadcast<A>(A(1) / static_cast<A>(pixels));
  for (int n = 0; n < images; ++n) {
    for (int b = 0; b < blocks; ++b) store(scratch + b * kLanes, Vec<A>{});
    for (int c = 0; c < classes; ++c) {
      const Vec<A> s = broadcast<A>(g[n * g_stride + c]);
      for (int b = 0; b < blocks; ++b)
        store(scratch + b * kLanes,
              load(scratch + b * kLanes) + s * load(w + (static_cast<ptrdiff_t>(c) * blocks + b) * kLanes));
    }
    for (int b = 0; b < blocks; ++b) {
      const Vec<A> v = load(scratch + b * kLanes) * share;
      A* p = gx + b * x_block + static_cast<ptrdiff_t>(n) * pixels * kLanes;
      for (int q = 0; q < pixels; ++q) store(p + q * kLanes, add ? load(p + q * kLanes) + v : v);
    }
  }
}

}  // namespace

template <class A>
const supernet::Kernels<A>& supernet_kernels() {
  static constexpr supernet::Kernels<A> table = {
      conv<A>,
      conv_input_grad<A>,
      conv_weight_grad<A>,
      depthwise<A>,
      depthwise_input_grad<A>,
      depthwise_weight_grad<A>,
      pool<A>,
      pool_grad<A>,
      combine<A>,
      pass_grad<A>,
      moments<A>,
      norm_sums<A>,
      norm_grad<A>,
      head<A>,
      head_input_grad<A>,
  };
  return table;
}

template const supernet::Kernels<float>& supernet_kernels<float>();
template const supernet::Kernels<double>& supernet_kernels<double>();

}  // namespace nasfast::NASFAST_ISA
