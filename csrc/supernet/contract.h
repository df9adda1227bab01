// What the fronts of the supernet ops ask of their arguments. Checked once per call; the kernels rely on it.
#pragma once

#include "../aten/tensor.h"

#include "../aten/check.h"
#include "program.h"

namespace nasfast::supernet {

void check_paths(const Program& program, const at::Tensor& images, const at::Tensor& index, at::TensorList params,
                 at::TensorList running, at::ArrayRef<double> eps, nasfast::Kernels kernels);

void check_update(const Program& program, const at::Tensor& index, at::TensorList mean, at::TensorList var,
                  at::TensorList batches, at::IntArrayRef sizes, at::ArrayRef<double> momentum);

}  // namespace nasfast::supernet
