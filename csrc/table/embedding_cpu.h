// Forward and backward of a table embedding on the CPU.
#pragma once

#include <tuple>

#include "contract.h"

namespace nasfast::table {

// [G, B, M, D]
template <class A>
at::Tensor forward_cpu(const Call& call);

// Gradients of weights and scales from that of the output; [0] where one is not wanted.
template <class A>
std::tuple<at::Tensor, at::Tensor> backward_cpu(const Call& call, const at::Tensor& grad, bool want_weights,
                                                bool want_scales);

}  // namespace nasfast::table
