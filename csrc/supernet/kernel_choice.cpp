// The kernels of the active instruction set, and how much scratch they want.
#include <algorithm>

#include "supernet_kernels.h"

namespace nasfast::supernet {
namespace {

int64_t padded_pixels(int h, int w, int pad) { return static_cast<int64_t>(h + 2 * pad) * (w + 2 * pad); }

}  // namespace

template <class A>
const Kernels<A>& kernels() {
  switch (active_isa()) {
#ifdef NASFAST_HAVE_AVX512
    case Isa::kAvx512:
      return avx512::supernet_kernels<A>();
#endif
#ifdef NASFAST_HAVE_AVX2
    case Isa::kAvx2:
      return avx2::supernet_kernels<A>();
#endif
    default:
      return baseline::supernet_kernels<A>();
  }
}

template const Kernels<float>& kernels<float>();
template const Kernels<double>& kernels<double>();

int product_pixels(int blocks) {
  constexpr int kTile = 6;  // pixels of a register tile
  const int fit = 128 * 1024 / (blocks * kLanes * static_cast<int>(sizeof(float)));
  return std::clamp(fit / kTile * kTile, 16 * kTile, 64 * kTile);
}

int64_t conv_scratch(const ConvShape& s) {
  if (s.kernel == 1 && s.stride == 1) return static_cast<int64_t>(s.blocks_in) * product_pixels(s.blocks_in) * kLanes;
  return s.blocks_in * padded_pixels(s.H, s.W, s.pad()) * kLanes;
}

int64_t conv_input_grad_scratch(const ConvShape& s) { return s.blocks_out * padded_pixels(s.h, s.w, s.pad()) * kLanes; }

int64_t conv_weight_grad_scratch(const ConvShape& s, int blocks) {
  if (s.kernel == 1 && s.stride == 1) return static_cast<int64_t>(blocks) * product_pixels(blocks) * kLanes;
  return blocks * padded_pixels(s.H, s.W, s.pad()) * kLanes;
}

int64_t depthwise_scratch(const ConvShape& s) {
  const int64_t in = static_cast<int64_t>(s.H) * (s.W + 2 * s.pad()),
                out = static_cast<int64_t>(s.h) * (s.w + 2 * s.pad());
  return (in + out) * kLanes;
}

int64_t pool_scratch(const ConvShape& s) { return (static_cast<int64_t>(s.H) * s.W + s.W) * kLanes; }

}  // namespace nasfast::supernet
