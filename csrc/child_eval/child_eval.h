// The op of batched child evaluation.
#pragma once

#include "../aten/tensor.h"

namespace nasfast::child_eval {

using Result = std::tuple<at::Tensor, at::Tensor>;

// Logits [outputs, N, classes], float32, of the children whose plan the tables hold (tables.h), and what it took: the
// fields of Usage. BatchNorms take their running statistics, or with `calibration` that batch's. No gradients.
Result child_eval(const at::Tensor& images, const std::optional<at::Tensor>& calibration, at::TensorList tensors,
                  at::ArrayRef<double> eps, const at::Tensor& primitives, const at::Tensor& macros,
                  const at::Tensor& nodes, const at::Tensor& inputs, const at::Tensor& outputs, int64_t classes,
                  int64_t memory_bound);

}  // namespace nasfast::child_eval
