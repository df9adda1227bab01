// A value as the CUDA kernels of child_eval and supernet read it: one image batch, NHWC, with `ld` elements between
// pixels: its channels rounded up to whole 16-byte packs, so that every access is one. What lies past the last channel
// is zero, as weights, scales and shifts are there. A value can be kept before its normalisation: then whoever reads it
// applies scale, shift and activation.
#pragma once

#include "device_types.h"

namespace nasfast {

inline constexpr int kActNone = 0, kActRelu = 1, kActRelu6 = 2;  // as Act; of two in a row the larger one is both

struct Source {
  const void* data;
  const float* affine;  // scale [ld], shift [ld]; null: none
  int act;              // after it
  int channels;
};

template <class S>
constexpr int leading(int64_t channels) {
  constexpr int kPack = 16 / static_cast<int>(sizeof(S));
  return static_cast<int>(ceil_div(channels, kPack) * kPack);
}

}  // namespace nasfast
