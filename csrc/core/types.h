// Element types shared by every kernel, and the blocked layout they compute in. No torch header here.
//
// Layout letters: N batch, C channels, H/W input size, h/w output size, B = ceil(C/8) channel blocks.
//   boundary of an op   NHWC    (torch's channels_last), any C
//   inside a kernel     NBHW8   one block of eight channels is contiguous per pixel; channels past C are zero
// A pixel of a block is one vector, so strides between pixels are compile-time constants for every C.
#pragma once

#include <cstddef>
#include <cstdint>

// Always inlined, so that no copy compiled for one instruction set can be shared with another.
#define NASFAST_INLINE inline __attribute__((always_inline))

namespace nasfast {

using std::ptrdiff_t;

inline constexpr int kLanes = 8;

// bfloat16 storage: the upper half of a float32. Arithmetic is always done in float32.
struct bf16 {
  uint16_t bits;
};

template <class S>
struct AccOf {
  using type = float;
};
template <>
struct AccOf<double> {
  using type = double;
};
// The type a storage type is computed in.
template <class S>
using acc_t = typename AccOf<S>::type;

NASFAST_INLINE constexpr int64_t ceil_div(int64_t a, int64_t b) { return (a + b - 1) / b; }
NASFAST_INLINE constexpr int64_t blocks_of(int64_t channels) { return ceil_div(channels, kLanes); }
NASFAST_INLINE constexpr int64_t padded_channels(int64_t channels) { return blocks_of(channels) * kLanes; }

}  // namespace nasfast
