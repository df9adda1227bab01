// Fronts of the cells' pre-processing: relu, pointwise convolution, BatchNorm, in one op.
//
// relu_conv_bn
//   x        [N, I, H, W]
//   weights  one tensor [O, I, 1, 1]: a pointwise convolution; two, [O1, I, 1, 1] and [O2, I, 1, 1]: a factorized
//            reduction, the first on pixels (2i, 2j), the second on (2i+1, 2j+1); H and W must be even
//   affine   none, or BatchNorm's weight and bias [O]
//   stats    none: the batch's statistics; else [1, 2, O], mean and variance to use
//   returns  [N, O, h, w], channels last, and the statistics used
#pragma once

#include "../aten/tensor.h"

#include <tuple>

namespace nasfast {

std::tuple<at::Tensor, at::Tensor> relu_conv_bn(const at::Tensor& x, at::TensorList weights, at::TensorList affine,
                                                const std::optional<at::Tensor>& stats, double eps, bool recompute);

}  // namespace nasfast
