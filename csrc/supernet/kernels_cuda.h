// Launches of the CUDA kernels of the supernet's training step; `blocks` is the sum over the tasks.
#pragma once

#include "task_args.h"

namespace nasfast::supernet {

// Output channels of a block of a convolution: 16, 32 or 64.
constexpr int conv_width(int64_t ld) { return ld > 32 ? 64 : ld > 16 ? 32 : 16; }
inline constexpr int kConvPixels = 64;
inline constexpr int kNormChannels = 16;  // of a block that joins the statistics of a normalisation
inline constexpr int kFlatThreads = 256;  // one element each

void launch_conv(const Table<LayerTask>&, int width, bool gradient, int64_t blocks, cudaStream_t);
void launch_depthwise(const Table<LayerTask>&, bool gradient, int64_t blocks, cudaStream_t);
void launch_map(const Table<LayerTask>&, const Source* terms, int64_t blocks, cudaStream_t);
void launch_map_grad(const Table<LayerTask>&, int64_t blocks, cudaStream_t);

void launch_moments(const Table<ReduceTask>&, int64_t blocks, cudaStream_t);
void launch_norm_sums(const Table<ReduceTask>&, int64_t blocks, cudaStream_t);
void launch_norms(const Table<NormTask>&, const Partial* partials, bool gradient, int64_t blocks, cudaStream_t);

void launch_head(const Table<HeadTask>&, int most_channels, bool gradient, int64_t blocks, cudaStream_t);

void launch_conv_weights(const Table<WeightTask>&, const Member* members, int width, int64_t blocks, cudaStream_t);
void launch_depthwise_weights(const Table<WeightTask>&, const Member* members, int kernel, int64_t blocks,
                              cudaStream_t);
void launch_head_weights(const Table<WeightTask>&, const Member* members, int64_t blocks, cudaStream_t);

void launch_pack(const Table<PackTask>&, int64_t blocks, cudaStream_t);
void launch_params(const Table<ParamTask>&, const PartTask* parts, int64_t blocks, cudaStream_t);
// in: images to values; else values to images, a null value is zero.
void launch_images(const Table<ImagesTask>&, const ImagesArgs&, bool in, int64_t blocks, cudaStream_t);
void launch_running(const Table<RunningTask>&, const BatchStatistics* uses, cudaStream_t);

}  // namespace nasfast::supernet
