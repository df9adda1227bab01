// The kernels of the active instruction set, and how much scratch they want.
#include <algorithm>

#include "child_eval_kernels.h"

namespace nasfast::child_eval {
namespace {

constexpr int64_t kSecondLevel = 160 * 1024;  // bytes of scratch that shall stay in the second-level cache

int64_t padded_pixels(const ConvShape& s) { return static_cast<int64_t>(s.H + 2 * s.pad()) * (s.W + 2 * s.pad()); }

}  // namespace

const Kernels& kernels() {
  switch (active_isa()) {
#ifdef NASFAST_HAVE_AVX512
    case Isa::kAvx512:
      return avx512::child_eval_kernels();
#endif
#ifdef NASFAST_HAVE_AVX2
    case Isa::kAvx2:
      return avx2::child_eval_kernels();
#endif
    default:
      return baseline::child_eval_kernels();
  }
}

int gather_pixels(const ConvShape& s) {
  constexpr int kTile = 6;  // pixels of a register tile
  const int fit = 24 * 1024 / (s.blocks_in * kLanes * static_cast<int>(sizeof(float)));
  return std::clamp(fit / kTile * kTile, 4 * kTile, 32 * kTile);
}

int64_t conv_scratch(const ConvShape& s) {
  if (s.kernel == 1) return static_cast<int64_t>(s.blocks_in) * gather_pixels(s) * kLanes;
  return s.blocks_in * padded_pixels(s) * kLanes;
}

int64_t depthwise_scratch(const ConvShape& s) { return padded_pixels(s) * kLanes; }

ResidualTiles residual_tiles(const ConvShape& s) {
  const int64_t block = padded_pixels(s) * kLanes * static_cast<int64_t>(sizeof(float));
  const int hidden = static_cast<int>(std::clamp<int64_t>(kSecondLevel / block, 2, 8));
  const int images = static_cast<int>(std::clamp<int64_t>(kSecondLevel / (block * hidden), 1, 64));
  return {hidden, std::min(images, s.images)};
}

int64_t inverted_residual_scratch(const ConvShape& s) {
  const ResidualTiles t = residual_tiles(s);
  const int64_t places = static_cast<int64_t>(t.images) * s.H * s.W + kLanes;  // 32-bit, one per pixel
  return t.hidden * t.images * padded_pixels(s) * kLanes +
         t.hidden * block_stride(static_cast<int64_t>(t.images) * s.h * s.w) + places;
}

int64_t pool_scratch(const ConvShape& s) { return static_cast<int64_t>(s.W) * kLanes; }

}  // namespace nasfast::child_eval
