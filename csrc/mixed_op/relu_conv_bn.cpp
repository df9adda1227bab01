// The cells' pre-processing: relu, pointwise convolution, BatchNorm, in one op.
//
// relu_conv_bn
//   x        [N, I, H, W]
//   weights  one tensor [O, I, 1, 1]: a pointwise convolution; two, [O1, I, 1, 1] and [O2, I, 1, 1]: a factorized
//            reduction, the first on pixels (2i, 2j), the second on (2i+1, 2j+1); H and W must be even
//   affine   none, or BatchNorm's weight and bias [O]
//   stats    none: the batch's statistics; else [1, 2, O], mean and variance to use
//   returns  [N, O, h, w], channels last, and the statistics used
#include <ATen/autocast_mode.h>
#include <torch/csrc/autograd/custom_function.h>
#include <torch/library.h>

#include "../aten/check.h"
#include "../aten/find_op.h"
#include "contract.h"
#include "relu_conv_bn_cpu.h"

namespace nasfast::mixed_op {
namespace {

using at::Tensor;
using at::TensorList;
using ReluConvBnResult = std::tuple<Tensor, Tensor>;
using ReluConvBnForward = std::tuple<Tensor, Tensor, Tensor>;
using ReluConvBnBackward = std::tuple<Tensor, std::vector<Tensor>, std::vector<Tensor>>;

ReluConvBnForward relu_conv_bn_forward_cpu(const Tensor& x, TensorList weights, TensorList affine,
                                           const std::optional<Tensor>& stats, double eps, bool recompute) {
  check_relu_conv_bn(x, weights, affine, stats, Kernels::kCpu);
  return dispatch_storage("relu_conv_bn", x.scalar_type(), [&]<class S>() -> ReluConvBnForward {
    const auto dtype = scalar_type_of<acc_t<S>>();
    int64_t out_channels = 0;
    for (const Tensor& w : weights) out_channels += w.size(0);
    const int64_t stride = static_cast<int64_t>(weights.size());
    if (x.size(0) == 0)
      return {at::empty({0, out_channels, x.size(2) / stride, x.size(3) / stride}, x.options()),
              at::zeros({1, 2, out_channels}, x.options().dtype(dtype)), at::empty({0}, x.options())};
    const ReluConvBnCall call{channels_last(x), weights.vec(), affine.vec(), eps};
    Tensor used = stats.has_value() ? stats->to(dtype) : Tensor(), out, saved;
    ReluConvBnCpu<S>(call, false).forward(used, !stats.has_value(), out, saved);
    if (recompute) saved = at::empty({0}, x.options());
    return {out, stats.has_value() ? used.clone() : used, saved};
  });
}

ReluConvBnBackward relu_conv_bn_backward_cpu(const Tensor& grad_out, const Tensor& x, TensorList weights,
                                             TensorList affine, const Tensor& stats, const Tensor& saved, double eps,
                                             bool batch_stats, bool want_x, bool want_params) {
  return dispatch_storage("relu_conv_bn", x.scalar_type(), [&]<class S>() -> ReluConvBnBackward {
    const Tensor none = at::empty({0}, x.options());
    if (x.size(0) == 0) {
      std::vector<Tensor> gw, ga;
      for (size_t i = 0; want_params && i < weights.size(); ++i)
        gw.push_back(at::zeros(weights[i].sizes(), weights[i].options()));
      for (size_t i = 0; want_params && i < affine.size(); ++i)
        ga.push_back(at::zeros(affine[i].sizes(), affine[i].options()));
      return {want_x ? at::empty_like(x, at::MemoryFormat::ChannelsLast) : none, gw, ga};
    }
    const ReluConvBnCall call{channels_last(x), weights.vec(), affine.vec(), eps};
    auto grads = ReluConvBnCpu<S>(call, true)
                     .backward(channels_last(grad_out.to(x.scalar_type())), stats, saved.numel() > 0 ? saved : Tensor(),
                               batch_stats, want_x, want_params);
    return {want_x ? grads.x : none, grads.weights, grads.affine};
  });
}

ReluConvBnForward call_relu_conv_bn(const Tensor& x, TensorList weights, TensorList affine,
                                    const std::optional<Tensor>& stats, double eps, bool recompute) {
  static const auto op =
      find_op<ReluConvBnForward(const Tensor&, TensorList, TensorList, const std::optional<Tensor>&, double, bool)>(
          "nasfast::_relu_conv_bn_forward");
  return op.call(x, weights, affine, stats, eps, recompute);
}

class ReluConvBnFunction : public torch::autograd::Function<ReluConvBnFunction> {
 public:
  using Ctx = torch::autograd::AutogradContext;
  using List = torch::autograd::variable_list;

  static List forward(Ctx* ctx, const Tensor& x, TensorList weights, TensorList affine,
                      const std::optional<Tensor>& stats, double eps, bool recompute) {
    at::AutoDispatchBelowADInplaceOrView guard;
    auto [out, used, saved] = call_relu_conv_bn(x, weights, affine, stats, eps, recompute);
    List keep{x, used, saved};
    keep.insert(keep.end(), weights.begin(), weights.end());
    keep.insert(keep.end(), affine.begin(), affine.end());
    ctx->save_for_backward(keep);
    ctx->saved_data["weights"] = static_cast<int64_t>(weights.size());
    ctx->saved_data["eps"] = eps;
    ctx->saved_data["batch_stats"] = !stats.has_value();
    ctx->mark_non_differentiable({used});
    return {out, used};
  }

  static List backward(Ctx* ctx, List grads) {
    TORCH_CHECK(!at::GradMode::is_enabled(), "relu_conv_bn: ", kNoSecondDerivative);
    static const auto op =
        find_op<ReluConvBnBackward(const Tensor&, const Tensor&, TensorList, TensorList, const Tensor&, const Tensor&,
                                   double, bool, bool, bool)>("nasfast::_relu_conv_bn_backward");
    const List all = ctx->get_saved_variables();
    const TensorList params = TensorList(all).slice(3);
    const int64_t W = ctx->saved_data["weights"].toInt();
    bool want_params = false;
    for (size_t i = 0; i < params.size(); ++i) want_params = want_params || ctx->needs_input_grad(1 + i);
    const bool want_x = ctx->needs_input_grad(0);
    auto [x, weights, affine] =
        op.call(grads[0], all[0], params.slice(0, W), params.slice(W), all[1], all[2],
                ctx->saved_data["eps"].toDouble(), ctx->saved_data["batch_stats"].toBool(), want_x, want_params);
    List out{want_x ? x : Tensor()};
    out.insert(out.end(), weights.begin(), weights.end());
    out.insert(out.end(), affine.begin(), affine.end());
    out.resize(1 + params.size());                   // nothing where no parameter asked
    for (int i = 0; i < 3; ++i) out.emplace_back();  // stats, eps, recompute
    return out;
  }
};

ReluConvBnResult relu_conv_bn_autograd(const Tensor& x, TensorList weights, TensorList affine,
                                       const std::optional<Tensor>& stats, double eps, bool recompute) {
  auto r = ReluConvBnFunction::apply(x, weights, affine, stats, eps, recompute);
  return {r[0], r[1]};
}

// Below autograd, where nothing is kept for a backward.
ReluConvBnResult relu_conv_bn_plain(const Tensor& x, TensorList weights, TensorList affine,
                                    const std::optional<Tensor>& stats, double eps, bool) {
  auto [out, used, saved] = call_relu_conv_bn(x, weights, affine, stats, eps, /*recompute=*/true);
  return {out, used};
}

ReluConvBnResult relu_conv_bn_autocast(const Tensor& x, TensorList weights, TensorList affine,
                                       const std::optional<Tensor>& stats, double eps, bool recompute) {
  c10::impl::ExcludeDispatchKeyGuard guard(c10::autocast_dispatch_keyset);
  const auto device = x.device().type();
  static const auto op =
      find_op<ReluConvBnResult(const Tensor&, TensorList, TensorList, const std::optional<Tensor>&, double, bool)>(
          "nasfast::relu_conv_bn");
  return op.call(at::autocast::cached_cast(at::autocast::get_autocast_dtype(device), x, device), weights, affine, stats,
                 eps, recompute);
}

}  // namespace

TORCH_LIBRARY_FRAGMENT(nasfast, m) {
  m.def(
      "relu_conv_bn(Tensor x, Tensor[] weights, Tensor[] affine, Tensor? stats, float eps, bool recompute) -> (Tensor, "
      "Tensor)");
  m.def(
      "_relu_conv_bn_forward(Tensor x, Tensor[] weights, Tensor[] affine, Tensor? stats, float eps, bool recompute) -> "
      "(Tensor, Tensor, Tensor)");
  m.def(
      "_relu_conv_bn_backward(Tensor grad_out, Tensor x, Tensor[] weights, Tensor[] affine, Tensor stats, Tensor "
      "saved, "
      "float eps, bool batch_stats, bool want_x, bool want_params) -> (Tensor, Tensor[], Tensor[])");
}

TORCH_LIBRARY_IMPL(nasfast, CPU, m) {
  m.impl("_relu_conv_bn_forward", relu_conv_bn_forward_cpu);
  m.impl("_relu_conv_bn_backward", relu_conv_bn_backward_cpu);
}
TORCH_LIBRARY_IMPL(nasfast, AutogradCPU, m) { m.impl("relu_conv_bn", relu_conv_bn_autograd); }
TORCH_LIBRARY_IMPL(nasfast, AutogradCUDA, m) { m.impl("relu_conv_bn", relu_conv_bn_autograd); }
TORCH_LIBRARY_IMPL(nasfast, AutogradMeta, m) { m.impl("relu_conv_bn", relu_conv_bn_autograd); }
TORCH_LIBRARY_IMPL(nasfast, CompositeExplicitAutograd, m) { m.impl("relu_conv_bn", relu_conv_bn_plain); }
TORCH_LIBRARY_IMPL(nasfast, AutocastCPU, m) { m.impl("relu_conv_bn", relu_conv_bn_autocast); }
TORCH_LIBRARY_IMPL(nasfast, AutocastCUDA, m) { m.impl("relu_conv_bn", relu_conv_bn_autocast); }

}  // namespace nasfast::mixed_op
