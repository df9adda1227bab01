// The mixed-op family: the contract is checked here, once, and the call goes to the device's kernels.
//
// mixed_op
//   states   inputs x [N, C, H, W], equal shapes, dtypes and devices
//   weights  [edges, candidates], any floating dtype: the architecture weight of every candidate
//   params   flat: per edge, per candidate, in the order of its modules' parameters
//            separable: depthwise, pointwise [, bn weight, bn bias], twice; dilated: once; skip at stride 2: conv_1,
//            conv_2 [, bn weight, bn bias]; conv_7x1_1x7: conv 1x7, conv 7x1 [, bn weight, bn bias];
//            pools [bn weight, bn bias]
//   stats    none: BatchNorm takes the batch's statistics; else [norms, 2, C]: mean and variance to use
//   graph    see parse_graph
//   returns  out [N, nodes*C, h, w], channels last, and the statistics used [norms, 2, C] (mean, biased variance)
#pragma once

#include "../aten/tensor.h"

#include <tuple>
#include <vector>

namespace nasfast::mixed_op {

// BatchNorm's running statistics from the statistics of a batch of `count` values a channel, as torch updates them:
// unbiased variance, running = (1 - momentum)*running + momentum*batch, count of batches + 1. In place.
void update_running_stats(const at::Tensor& stats, at::TensorList running_mean, at::TensorList running_var,
                          at::TensorList batches, double momentum, int64_t count);

// Elements of the images an edge saves for backward, per batch image, on the CPU or on CUDA.
std::vector<int64_t> mixed_op_saved_elements(at::IntArrayRef graph, int64_t channels, int64_t height, int64_t width,
                                             bool cuda);

// BatchNorms of the graph.
int64_t mixed_op_norm_count(at::IntArrayRef graph);

}  // namespace nasfast::mixed_op
