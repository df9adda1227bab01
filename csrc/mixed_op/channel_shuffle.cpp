// PC-DARTS' channel shuffle: the mixed and the passed channels side by side, then dealt out over the groups.
//
// shuffle_channels
//   mixed    [N, M, H, W]
//   passed   [N, P, H, W], M + P a multiple of `groups`
//   returns  [N, M + P, H, W], channels last: channel j*groups + g is channel g*(M + P)/groups + j of the two in a row
#include <torch/csrc/autograd/custom_function.h>
#include <torch/library.h>

#include "../aten/check.h"
#include "../aten/find_op.h"
#include "contract.h"

namespace nasfast::mixed_op {
namespace {

using at::Tensor;

// [N, C, H, W] with the channels split in two and dealt out, or gathered again (rows and columns change places).
Tensor transpose_channels(const Tensor& x, int64_t rows) {
  const int64_t N = x.size(0), C = x.size(1), H = x.size(2), W = x.size(3);
  const Tensor nhwc = channels_last(x).permute({0, 2, 3, 1}).view({N, H, W, rows, C / rows});
  return nhwc.transpose(3, 4).contiguous().view({N, H, W, C}).permute({0, 3, 1, 2});
}

Tensor shuffle_forward_cpu(const Tensor& mixed, const Tensor& passed, int64_t groups) {
  check_shuffle(mixed, passed, groups);
  return transpose_channels(at::cat({channels_last(mixed), channels_last(passed)}, 1), groups);
}

std::tuple<Tensor, Tensor> shuffle_backward_cpu(const Tensor& grad, int64_t mixed_channels, int64_t groups) {
  const Tensor whole = transpose_channels(grad, grad.size(1) / groups);
  return {channels_last(whole.narrow(1, 0, mixed_channels)),
          channels_last(whole.narrow(1, mixed_channels, whole.size(1) - mixed_channels))};
}

const auto& shuffle_op() {
  static const auto op = find_op<Tensor(const Tensor&, const Tensor&, int64_t)>("nasfast::shuffle_channels");
  return op;
}

class ShuffleFunction : public torch::autograd::Function<ShuffleFunction> {
 public:
  using Ctx = torch::autograd::AutogradContext;
  using List = torch::autograd::variable_list;

  static Tensor forward(Ctx* ctx, const Tensor& mixed, const Tensor& passed, int64_t groups) {
    at::AutoDispatchBelowADInplaceOrView guard;
    ctx->saved_data["mixed"] = mixed.size(1);
    ctx->saved_data["groups"] = groups;
    return shuffle_op().call(mixed, passed, groups);
  }

  static List backward(Ctx* ctx, List grads) {
    TORCH_CHECK(!at::GradMode::is_enabled(), "shuffle_channels: ", kNoSecondDerivative);
    static const auto op =
        find_op<std::tuple<Tensor, Tensor>(const Tensor&, int64_t, int64_t)>("nasfast::_shuffle_channels_backward");
    auto [mixed, passed] = op.call(grads[0], ctx->saved_data["mixed"].toInt(), ctx->saved_data["groups"].toInt());
    return {mixed, passed, Tensor()};
  }
};

Tensor shuffle_autograd(const Tensor& mixed, const Tensor& passed, int64_t groups) {
  return ShuffleFunction::apply(mixed, passed, groups);
}

}  // namespace

TORCH_LIBRARY_FRAGMENT(nasfast, m) {
  m.def("shuffle_channels(Tensor mixed, Tensor passed, int groups) -> Tensor");
  m.def("_shuffle_channels_backward(Tensor grad, int mixed_channels, int groups) -> (Tensor, Tensor)");
}

TORCH_LIBRARY_IMPL(nasfast, CPU, m) {
  m.impl("shuffle_channels", shuffle_forward_cpu);
  m.impl("_shuffle_channels_backward", shuffle_backward_cpu);
}
TORCH_LIBRARY_IMPL(nasfast, AutogradCPU, m) { m.impl("shuffle_channels", shuffle_autograd); }
TORCH_LIBRARY_IMPL(nasfast, AutogradCUDA, m) { m.impl("shuffle_channels", shuffle_autograd); }
TORCH_LIBRARY_IMPL(nasfast, AutogradMeta, m) { m.impl("shuffle_channels", shuffle_autograd); }

}  // namespace nasfast::mixed_op
