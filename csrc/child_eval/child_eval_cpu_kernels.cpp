// CPU kernels of batched child evaluation, one instruction set.
#include "child_eval_kernels.h"
#include "conv_cpu.h"
#include "inverted_residual_cpu.h"

namespace nasfast::NASFAST_ISA {
namespace {

template <bool MAXIMUM>
NASFAST_INLINE V join(V a, V b) {
  if constexpr (MAXIMUM) return ((b > a) | (b != b)) ? b : a;
  return a + b;
}

NASFAST_INLINE int first_tap(int start) { return start < 0 ? -start : 0; }
NASFAST_INLINE int end_tap(int start, int kernel, int size) { return start + kernel > size ? size - start : kernel; }

// One image's block: columns of a window first, which neighbouring windows share, then rows of those.
template <bool MAXIMUM>
void pool_block(const ConvShape& s, const float* x, float* line, float* out) {
  const int pad = s.kernel == 3 ? 1 : 0;
  for (int oy = 0; oy < s.h; ++oy) {
    const int top = oy * s.stride - pad;
    const int y0 = first_tap(top), y1 = end_tap(top, s.kernel, s.H);
    for (int c = 0; c < s.W; ++c) {
      const float* p = x + (static_cast<ptrdiff_t>(top + y0) * s.W + c) * kLanes;
      V v = load(p);
      for (int y = y0 + 1; y < y1; ++y) v = join<MAXIMUM>(v, load(p += static_cast<ptrdiff_t>(s.W) * kLanes));
      store(line + c * kLanes, v);
    }
    for (int ox = 0; ox < s.w; ++ox, out += kLanes) {
      const int left = ox * s.stride - pad;
      const int x0 = first_tap(left), x1 = end_tap(left, s.kernel, s.W);
      V v = load(line + (left + x0) * kLanes);
      for (int c = x0 + 1; c < x1; ++c) v = join<MAXIMUM>(v, load(line + (left + c) * kLanes));
      if constexpr (!MAXIMUM) v = v * broadcast<float>(1.0f / static_cast<float>((x1 - x0) * (y1 - y0)));
      store(out, v);
    }
  }
}

void pool(const ConvShape& s, PoolKind kind, const float* x, float* scratch, float* out) {
  for (int b = 0; b < s.blocks_in; ++b)
    for (int n = 0; n < s.images; ++n) {
      const float* in = x + b * block_stride(s.pixels_in()) + static_cast<ptrdiff_t>(n) * s.H * s.W * kLanes;
      float* to = out + b * block_stride(s.pixels_out()) + static_cast<ptrdiff_t>(n) * s.h * s.w * kLanes;
      (kind == PoolKind::kMaximum ? pool_block<true> : pool_block<false>)(s, in, scratch, to);
    }
}

void affine(int blocks, int pixels, const float* x, const Affine& after, const float* residual, float* out) {
  for (int b = 0; b < blocks; ++b) {
    const Finish f(after, b);
    const ptrdiff_t base = b * block_stride(pixels);
    for (ptrdiff_t i = base; i < base + static_cast<ptrdiff_t>(pixels) * kLanes; i += kLanes) {
      V v = f(load(x + i));
      if (residual) v += load(residual + i);
      store(out + i, v);
    }
  }
}

void sum(int blocks, int pixels, const float* const* xs, int count, float* out) {
  for (int b = 0; b < blocks; ++b) {
    const ptrdiff_t base = b * block_stride(pixels);
    for (ptrdiff_t i = base; i < base + static_cast<ptrdiff_t>(pixels) * kLanes; i += kLanes) {
      V v = load(xs[0] + i);
      for (int k = 1; k < count; ++k) v += load(xs[k] + i);
      store(out + i, v);
    }
  }
}

void moments(int blocks, int pixels, const float* x, double* mean, double* squares) {
  constexpr int kRun = 256;  // pixels summed in float32 before the sum goes on in float64
  for (int b = 0; b < blocks; ++b) {
    const float* p = x + b * block_stride(pixels);
    double total[kLanes] = {}, square[kLanes] = {};
    const auto add = [](double* to, V v) {
      for (int i = 0; i < kLanes; ++i) to[i] += static_cast<double>(v[i]);
    };
    for (int first = 0; first < pixels; first += kRun) {
      const int end = first + kRun < pixels ? first + kRun : pixels;
      V s = {};
      for (int q = first; q < end; ++q) s += load(p + q * kLanes);
      add(total, s);
    }
    float centre[kLanes];
    for (int i = 0; i < kLanes; ++i) {
      mean[b * kLanes + i] = total[i] / pixels;
      centre[i] = static_cast<float>(total[i] / pixels);
    }
    const V c = load(centre);
    for (int first = 0; first < pixels; first += kRun) {
      const int end = first + kRun < pixels ? first + kRun : pixels;
      V s = {};
      for (int q = first; q < end; ++q) {
        const V t = load(p + q * kLanes) - c;
        s += t * t;
      }
      add(square, s);
    }
    for (int i = 0; i < kLanes; ++i) {
      const double off = mean[b * kLanes + i] - static_cast<double>(centre[i]);
      squares[b * kLanes + i] = square[i] - pixels * off * off;
    }
  }
}

void head(int images, int blocks, int pixels, const float* x, const float* w, const float* bias, int classes,
          float* scratch, float* out, ptrdiff_t out_stride) {
  const ptrdiff_t x_block = block_stride(static_cast<int64_t>(images) * pixels);
  const V share = broadcast<float>(1.0f / static_cast<float>(pixels));
  for (int n = 0; n < images; ++n) {
    for (int b = 0; b < blocks; ++b) {
      const float* p = x + b * x_block + static_cast<ptrdiff_t>(n) * pixels * kLanes;
      V v = {};
      for (int q = 0; q < pixels; ++q) v += load(p + q * kLanes);
      store(scratch + b * kLanes, v * share);
    }
    for (int c = 0; c < classes; ++c) {
      V v = {};
      for (int b = 0; b < blocks; ++b)
        v += load(scratch + b * kLanes) * load(w + (static_cast<ptrdiff_t>(c) * blocks + b) * kLanes);
      float total = bias[c];
      for (int i = 0; i < kLanes; ++i) total += v[i];
      out[n * out_stride + c] = total;
    }
  }
}

}  // namespace

const child_eval::Kernels& child_eval_kernels() {
  static constexpr child_eval::Kernels table = {conv, depthwise, inverted_residual, pool, affine, sum, moments, head};
  return table;
}

}  // namespace nasfast::NASFAST_ISA
