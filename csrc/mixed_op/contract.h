// What the fronts of the mixed-op family ask of their arguments. Checked once per call; the kernels rely on it.
#pragma once

#include "../aten/check.h"
#include "graph.h"

namespace nasfast::mixed_op {

void check_mixed_op(const Graph& graph, at::TensorList states, const at::Tensor& weights, at::TensorList params,
                    const std::optional<at::Tensor>& stats, Kernels kernels);

void check_relu_conv_bn(const at::Tensor& x, at::TensorList weights, at::TensorList affine,
                        const std::optional<at::Tensor>& stats, Kernels kernels);

void check_running_stats(const at::Tensor& stats, at::TensorList running_mean, at::TensorList running_var,
                         at::TensorList batches, int64_t count);

void check_shuffle(const at::Tensor& mixed, const at::Tensor& passed, int64_t groups);

}  // namespace nasfast::mixed_op
