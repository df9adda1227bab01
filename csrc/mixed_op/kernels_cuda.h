// Launches of the mixed op's CUDA kernels, for storage type float, bf16_t or half_t. Pointers and a stream; no torch.
#pragma once

#include "device_args.h"

namespace nasfast::mixed_op {

// `width`: output channels of a block, 16, 32 or 64.
template <class S>
void launch_conv_forward(const ForwardArgs& args, int width, int64_t blocks, cudaStream_t stream);

// `vector`: every view is `vector`.
template <class S>
void launch_pool_statistics(const PoolArgs& args, bool vector, int64_t blocks, cudaStream_t stream);

template <class S>
void launch_node_sum(const NodeArgs& args, bool vector, int64_t max_blocks, cudaStream_t stream);

template <class S>
void launch_products(const ProductArgs& args, bool vector, int64_t blocks, cudaStream_t stream);

// `width`: input channels of a block, 16 or 32.
template <class S>
void launch_conv_backward(const BackwardArgs& args, int width, int64_t blocks, cudaStream_t stream);

void launch_reduce_weights(const ReduceArgs& args, int64_t blocks, cudaStream_t stream);

void launch_running_stats(const RunningArgs& args, cudaStream_t stream);

// T: half_t, float or double, for elements of 2, 4 or 8 bytes: they are moved and not looked at.
template <class T>
void launch_shuffle(const ShuffleArgs& args, cudaStream_t stream);
template <class T>
void launch_unshuffle(const ShuffleArgs& args, cudaStream_t stream);

}  // namespace nasfast::mixed_op
