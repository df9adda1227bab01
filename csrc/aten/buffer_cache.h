// Keeps the large buffers of the CPU kernels between steps.
//
// A search step saves hundreds of megabytes and frees them again; the C library gives such blocks back to the system,
// and the next step pays a page fault for every 4 KiB. Freed buffers are kept here by size instead, up to the most that
// was ever in use at once.
#pragma once

#include "tensor.h"

namespace nasfast {

// An uninitialised CPU tensor whose memory returns to the cache.
at::Tensor cached_empty(at::IntArrayRef sizes, at::ScalarType dtype);

// The same for a channels-last image batch [N, C, H, W].
inline at::Tensor cached_empty_channels_last(int64_t N, int64_t C, int64_t H, int64_t W, at::ScalarType dtype) {
  return cached_empty({N, H, W, C}, dtype).permute({0, 3, 1, 2});
}

// Gives all unused buffers back to the system. Returns their bytes.
int64_t empty_buffer_cache();

}  // namespace nasfast
