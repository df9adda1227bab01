#include "profile.h"

#include <atomic>
#include <chrono>

namespace nasfast::mixed_op {
namespace {

enum Kernel : int {
  kLoadState,
  kLoadAffine,
  kConvForward,
  kConvBackward,
  kPoolsForward,
  kPoolsBackward,
  kNodeSum,
  kProducts,
  kAddGrad,
  kMaskGrad,
  kStateGrad,
  kKernels,
};
constexpr const char* kNames[kKernels] = {"load_state",    "load_affine",    "conv_forward", "conv_backward",
                                          "pools_forward", "pools_backward", "node_sum",     "products",
                                          "add_grad",      "mask_grad",      "state_grad"};

struct Counter {
  std::atomic<int64_t> calls{0}, nanoseconds{0}, flops{0}, bytes{0};
};
Counter g_counters[kKernels];
std::atomic<bool> g_running{false};

struct Work {
  int64_t flops, bytes;
};

template <class F>
void count(Kernel kernel, Work work, const F& run) {
  const auto start = std::chrono::steady_clock::now();
  run();
  const auto spent = std::chrono::steady_clock::now() - start;
  Counter& c = g_counters[kernel];
  c.calls.fetch_add(1, std::memory_order_relaxed);
  c.nanoseconds.fetch_add(std::chrono::duration_cast<std::chrono::nanoseconds>(spent).count(),
                          std::memory_order_relaxed);
  c.flops.fetch_add(work.flops, std::memory_order_relaxed);
  c.bytes.fetch_add(work.bytes, std::memory_order_relaxed);
}

int64_t depthwise_macs(const ConvGeometry& g) {
  if (g.front != Front::kDepthwise) return 0;
  return static_cast<int64_t>(g.h) * g.w * g.blocks_in * kLanes * g.kernel * g.kernel;
}

int64_t product_macs(const ConvGeometry& g) {
  const int64_t blocks_in = g.split < 0 ? g.product_blocks() : g.blocks_in;
  return static_cast<int64_t>(g.h) * g.w * blocks_in * kLanes * g.blocks_out * kLanes;
}

int64_t input_elements(const ConvGeometry& g) {
  return static_cast<int64_t>(g.blocks_in) * g.H * g.padded_width() * kLanes;
}

int64_t output_elements(const ConvGeometry& g) { return static_cast<int64_t>(g.blocks_out) * g.h * g.w * kLanes; }

// The wrapped functions, one set per storage type. `base` is set before a profiled op starts.
template <class S>
struct Profiled {
  using A = acc_t<S>;
  static inline const KernelTable<S>* base = nullptr;
  static constexpr int64_t s = sizeof(S), a = sizeof(A);

  static void load_state(const S* x, ptrdiff_t stride, int C, int H, int W, int pad, A* raw, A* relu) {
    const int64_t n = padded_channels(C) * H;
    const int64_t written = (raw ? n * W : 0) + (relu ? n * (W + 2 * pad) : 0);
    count(kLoadState, {0, n * W * s + written * a}, [&] { base->load_state(x, stride, C, H, W, pad, raw, relu); });
  }

  static void load_affine(const S* y, const A* scale, const A* shift, bool relu, int C, int H, int W, int pad, A* dst) {
    const int64_t n = padded_channels(C) * H;
    count(kLoadAffine, {2 * n * W, n * W * s + n * (W + 2 * pad) * a},
          [&] { base->load_affine(y, scale, shift, relu, C, H, W, pad, dst); });
  }

  static void conv_forward(const ConvGeometry& g, const A* x, const PackedWeights<A>& w, A* tile, S* y, A* stats) {
    const Work work{2 * (depthwise_macs(g) + product_macs(g)), input_elements(g) * a + output_elements(g) * s};
    count(kConvForward, work, [&] { base->conv_forward(g, x, w, tile, y, stats); });
  }

  static void conv_backward(const ConvGeometry& g, const A* x, const GradSource<S>& source, const PackedWeights<A>& w,
                            A* tile, A* dy, A* gx, bool add, const WeightGrads<A>& grads) {
    int64_t macs = 0, bytes = input_elements(g) * a + output_elements(g) * (a + (source.y ? s : 0));
    if (gx || grads.depthwise) macs += product_macs(g);
    if (gx) {
      macs += depthwise_macs(g);
      bytes += (add ? 2 : 1) * input_elements(g) * a;
    }
    if (grads.product) macs += product_macs(g) + depthwise_macs(g);
    if (grads.depthwise) macs += depthwise_macs(g);
    count(kConvBackward, {2 * macs, bytes}, [&] { base->conv_backward(g, x, source, w, tile, dy, gx, add, grads); });
  }

  static void pools_forward(const A* raw, int blocks, int H, int W, int stride, int h, int w, S* average, S* maximum,
                            A* average_stats, A* maximum_stats, uint8_t* tap) {
    const int64_t c = static_cast<int64_t>(blocks) * kLanes, out = c * h * w;
    count(kPoolsForward, {18 * out, c * H * W * a + out * (2 * s + (tap ? 1 : 0))}, [&] {
      base->pools_forward(raw, blocks, H, W, stride, h, w, average, maximum, average_stats, maximum_stats, tap);
    });
  }

  static void pools_backward(const A* g_average, const A* g_maximum, const uint8_t* tap, int blocks, int H, int W,
                             int stride, int h, int w, A* g_raw) {
    const int64_t c = static_cast<int64_t>(blocks) * kLanes, out = c * h * w;
    count(kPoolsBackward, {18 * out, 2 * c * H * W * a + out * (2 * a + 1)},
          [&] { base->pools_backward(g_average, g_maximum, tap, blocks, H, W, stride, h, w, g_raw); });
  }

  static void node_sum(const NodeInput<S>* inputs, int n, const SkipInput<S>* skips, int skip_count, const A* shift,
                       int C, int pixels, S* out, ptrdiff_t stride) {
    const int64_t image = padded_channels(C) * pixels, read = n + skip_count;
    count(kNodeSum, {2 * image * read, image * (read + 1) * s},
          [&] { base->node_sum(inputs, n, skips, skip_count, shift, C, pixels, out, stride); });
  }

  static void products(const A* g, const S* const* ys, int n, const SkipInput<S>* skips, int skip_count, int C,
                       int pixels, A* sums) {
    const int64_t image = padded_channels(C) * pixels, read = n + skip_count;
    count(kProducts, {image * (2 * read + 1), image * (read * s + a)},
          [&] { base->products(g, ys, n, skips, skip_count, C, pixels, sums); });
  }

  static void add_grad(const GradSource<S>& source, int blocks, int pixels, A* out) {
    const int64_t image = static_cast<int64_t>(blocks) * kLanes * pixels;
    count(kAddGrad, {5 * image, image * (3 * a + (source.y ? s : 0))},
          [&] { base->add_grad(source, blocks, pixels, out); });
  }

  static void mask_grad(const A* gv, const A* v, const S* y, int blocks, int H, int W, int pad, A* gz, A* sums) {
    const int64_t image = static_cast<int64_t>(blocks) * kLanes * H * W;
    count(kMaskGrad, {3 * image, image * ((v ? 3 : 2) * a + s)},
          [&] { base->mask_grad(gv, v, y, blocks, H, W, pad, gz, sums); });
  }

  static void state_grad(const A* relu, const A* g_relu, const A* g_raw, const A* const* skip_g, const A* skip_w,
                         int skips, const S* extra, ptrdiff_t extra_stride, int C, int H, int W, int pad, A* blocked,
                         S* out, ptrdiff_t out_stride) {
    const int64_t image = padded_channels(C) * H * W;
    const int64_t reads = (g_relu ? 2 : 0) + (g_raw ? 1 : 0) + skips;
    count(kStateGrad, {image * (2 * skips + 2), image * (reads * a + (extra ? s : 0) + (blocked ? a : s))}, [&] {
      base->state_grad(relu, g_relu, g_raw, skip_g, skip_w, skips, extra, extra_stride, C, H, W, pad, blocked, out,
                       out_stride);
    });
  }
};

}  // namespace

void profile_start() {
  for (Counter& c : g_counters) c.calls = c.nanoseconds = c.flops = c.bytes = 0;
  g_running = true;
}

std::map<std::string, std::array<double, 4>> profile_stop() {
  g_running = false;
  std::map<std::string, std::array<double, 4>> out;
  for (int k = 0; k < kKernels; ++k) {
    const Counter& c = g_counters[k];
    if (c.calls == 0) continue;
    out[kNames[k]] = {static_cast<double>(c.calls), static_cast<double>(c.nanoseconds) * 1e-9,
                      static_cast<double>(c.flops), static_cast<double>(c.bytes)};
  }
  return out;
}

bool profile_running() { return g_running; }

template <class S>
const KernelTable<S>& profiled_table(const KernelTable<S>& table) {
  using P = Profiled<S>;
  P::base = &table;
  static constexpr KernelTable<S> wrapped = {
      P::load_state, P::load_affine, P::conv_forward, P::conv_backward, P::pools_forward, P::pools_backward,
      P::node_sum,   P::products,    P::add_grad,     P::mask_grad,     P::state_grad,
  };
  return wrapped;
}

template const KernelTable<float>& profiled_table(const KernelTable<float>&);
template const KernelTable<double>& profiled_table(const KernelTable<double>&);
template const KernelTable<bf16>& profiled_table(const KernelTable<bf16>&);

}  // namespace nasfast::mixed_op
