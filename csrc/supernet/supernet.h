// The supernet ops: a shared network in which every group of images takes a path of its own.
//
// supernet_paths
//   images   [N, C, H, W], float32 or float64, any layout
//   index    int64 [K, places], K divides N: which operation the images of group g, N/K of them side by side, compute
//   at
//            each place
//   params   weights, biases, gammas and betas, numbered by the graph; of the images' dtype
//   running  empty: statistics of the batch; else mean and variance of every normalisation
//   graph    see program.h
//   eps      of every normalisation
//   per_operation  statistics of all images whose groups chose the same operation, instead of each group's own
//   returns  logits [N, classes] or [N, C', h, w], and the batch's statistics, float64, for supernet_update_running_
#pragma once

#include "../aten/tensor.h"

#include <tuple>

namespace nasfast::supernet {

// Channels, halvings of height and width, and whether it is logits: what the fakes need to know.
std::tuple<int64_t, int64_t, bool> supernet_output(at::IntArrayRef graph);

}  // namespace nasfast::supernet
