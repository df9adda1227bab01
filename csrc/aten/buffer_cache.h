// Keeps the large buffers of the CPU kernels between steps.
//
// A search step saves hundreds of megabytes and frees them again; the C library gives such blocks back to the system,
// and the next step pays a page fault for every 4 KiB. Freed buffers are kept here by size instead, up to the most that
// was ever in use at once.
#pragma once

#include <ATen/ATen.h>

namespace nasfast {

// An uninitialised CPU tensor whose memory returns to the cache.
at::Tensor cached_empty(at::IntArrayRef sizes, at::ScalarType dtype);

// Gives all unused buffers back to the system. Returns their bytes.
int64_t empty_buffer_cache();

}  // namespace nasfast
