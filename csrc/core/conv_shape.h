// Values of the CPU kernels of child_eval and supernet, and the convolutions between them. No torch header here.
//
// A value is one slice of the batch, a few images, in blocks of eight channels: [B][images*H*W][8]. Blocks lie
// `block_stride` elements apart, a cache line more than they fill, so that blocks of a power of two do not fall on the
// same sets of the first-level cache. Channels past C are zero.
#pragma once

#include "types.h"

namespace nasfast {

enum class Act : int { kNone = 0, kRelu = 1, kRelu6 = 2 };

NASFAST_INLINE constexpr ptrdiff_t block_stride(int64_t pixels) { return pixels * kLanes + 16; }
NASFAST_INLINE constexpr int64_t value_elements(int64_t channels, int64_t pixels) {
  return blocks_of(channels) * block_stride(pixels);
}

struct ConvShape {
  int images, blocks_in, blocks_out;
  int H, W, h, w;
  int kernel, stride, dilation;
  int first = 0;  // pixel of each side that a 1x1 convolution begins with
  int pad() const { return kernel / 2 * dilation; }
  int pixels_in() const { return images * H * W; }
  int pixels_out() const { return images * h * w; }
};

enum class PoolKind : int { kAverage = 0, kMaximum = 1 };

}  // namespace nasfast
