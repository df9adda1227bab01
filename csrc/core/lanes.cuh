// How a block of kLaneThreads walks over pixels when sums per channel are wanted: a thread keeps to V channels of a
// group of at most kLaneChannels, and takes every `lanes`-th pixel of its block's run.
#pragma once

#include "device.h"

namespace nasfast {

inline constexpr int kLaneThreads = 128, kLaneChannels = 64;

template <int V>
struct Lanes {
  int c0, channels;    // of the block's group
  int packs, lanes;    // threads side by side over channels, over pixels
  int pack, lane;      // this thread's; lane >= lanes: idle
  int64_t begin, end;  // pixels of the block's run, over all images

  __device__ __forceinline__ Lanes(int group, int run, int runs, int C, int64_t pixels) {
    c0 = group * kLaneChannels;
    channels = min(kLaneChannels, C - c0);
    packs = (channels + V - 1) / V;
    lanes = kLaneThreads / packs;
    pack = threadIdx.x % packs;
    lane = threadIdx.x / packs;
    const int64_t each = (pixels + runs - 1) / runs;
    begin = min(each * run, pixels);
    end = min(begin + each, pixels);
  }
  __device__ __forceinline__ bool idle() const { return lane >= lanes; }
  __device__ __forceinline__ int channel() const { return c0 + pack * V; }
};

__host__ __device__ constexpr int lane_groups(int C) { return (C + kLaneChannels - 1) / kLaneChannels; }

struct PixelAt {
  int n, y, x;
};
__device__ __forceinline__ PixelAt pixel_at(int64_t pixel, int h, int w) {
  const int image = h * w, n = static_cast<int>(quotient(pixel, image));
  const int rest = static_cast<int>(pixel - static_cast<int64_t>(n) * image);
  return {n, rest / w, rest % w};
}

}  // namespace nasfast
