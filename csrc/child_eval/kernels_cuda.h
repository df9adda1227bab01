// Launches of the CUDA kernels of batched child evaluation; `blocks` is the sum over the tasks.
#pragma once

#include "task_args.h"

namespace nasfast::child_eval {

// Output channels of a block: 16, 32 or 64.
constexpr int conv_width(int64_t channels) { return channels > 32 ? 64 : channels > 16 ? 32 : 16; }

template <class S>
void launch_conv(const ConvArgs& args, int width, bool statistics, int64_t blocks, cudaStream_t stream);
template <class S>
void launch_depthwise(const ConvArgs& args, bool statistics, int64_t blocks, cudaStream_t stream);
template <class S>
void launch_map(const MapArgs& args, int64_t blocks, cudaStream_t stream);
template <class S>
void launch_head(const HeadArgs& args, int64_t blocks, cudaStream_t stream);
template <class S>
void launch_images(const ImagesArgs& args, cudaStream_t stream);
template <class S>
void launch_pack(const PackArgs& args, int64_t blocks, cudaStream_t stream);

}  // namespace nasfast::child_eval
