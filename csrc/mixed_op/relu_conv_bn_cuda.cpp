// relu_conv_bn on CUDA: the convolution kernels of the mixed op with a front of one tap, or two for a factorized
// reduction. Forward: convolution with statistics, then BatchNorm as a node with one term. Backward: the products with
// the output's gradient, then both gradients in one launch, and the sum of the weights'.
#include "../aten/dispatch_cuda.h"
#include "backward_plan_cuda.h"
#include "contract.h"
#include "kernels_cuda.h"

namespace nasfast::mixed_op {
namespace {

using at::Tensor;
using at::TensorList;
using ReluConvBnForward = std::tuple<Tensor, Tensor, Tensor>;
using ReluConvBnBackward = std::tuple<Tensor, std::vector<Tensor>, std::vector<Tensor>>;

template <class S>
class ReluConvBnDevice {
 public:
  ReluConvBnDevice(const DeviceCall& device, const Tensor& x, TensorList weights, TensorList affine, double eps)
      : device_(device),
        x_(channels_last(x)),
        weights_(device, weights),
        affine_(device, affine),
        eps_(eps),
        N_(x.size(0)),
        counters_(device, 64 + 4 * ceil_div(x.size(1) + weights[0].size(0) + weights.back().size(0), kChunk)) {
    int64_t O = 0;
    for (const Tensor& w : weights) O += w.size(0);
    shape_ = pointwise_shape(x.size(1), O, weights.size() == 2 ? weights[0].size(0) : 0, x.size(2), x.size(3));
  }

  int64_t out_elements() const { return N_ * shape_.h * shape_.w * shape_.O; }

  // y, and the statistics where wanted.
  void convolve(const Tensor& y, const Tensor& stats) {
    float* wanted = stats.defined() ? device_.write<float>(stats) : nullptr;
    run_forward_convs<S>(device_, counters_, {{{conv(), out_view(device_.write<S>(y)), nullptr, wanted}, 0}}, N_, eps_);
  }

  void normalise(const Tensor& y, const Tensor& stats, const Tensor& out) {
    NodeArgs args{};
    args.N = checked_int("node_sum", "batch", N_);
    args.eps = static_cast<float>(eps_);
    args.out = out_view(device_.write<S>(out));
    args.image[0] = out_view(device_.read<S>(y));
    args.term[0] = {nullptr, norm(stats)};
    args.first_term[1] = 1;
    args.images = args.rows = args.terms = 1;
    launch_node_sum<S>(args, args.out.vector && args.image[0].vector, kMaxBlocks, device_.stream());
  }

  ReluConvBnBackward backward(const Tensor& grad_out, const Tensor& stats, const Tensor& y, bool batch_stats,
                              bool want_x, bool want_params) {
    ReluConvBnBackward result;
    auto& [grad_x, grad_weights, grad_affine] = result;
    const auto grads = [&](const Params& params, std::vector<Tensor>& out) {
      for (const Tensor& p : params.tensors())
        if (want_params) out.push_back(device_.empty(p.sizes(), p.scalar_type()));
    };
    grads(weights_, grad_weights);
    grads(affine_, grad_affine);
    const auto grad_of = [&](const std::vector<Tensor>& list, size_t i) {
      return i < list.size() ? param_view(device_, list[i], true) : ParamView{};
    };
    const Tensor coefficients = device_.empty({3, shape_.O}, at::kFloat);
    const View g = out_view(device_.read<S>(grad_out)), y_view = out_view(device_.read<S>(y));
    ProductRow row{};
    row.x = y_view;
    row.norm = norm(stats);
    row.coefficients = device_.write<float>(coefficients);
    row.gamma_grad = grad_of(grad_affine, 0);
    row.beta_grad = grad_of(grad_affine, 1);
    run_products<S>(device_, counters_, {{g, true, 1, {row}}}, N_, batch_stats, eps_);

    InputWork work;
    WeightSums sums(device_);
    BackwardConv task{};
    task.conv = conv();
    task.g = g;
    if (batch_stats) task.y = y_view;
    task.coefficients = row.coefficients;
    if (want_params) sums.add(task, N_, {}, grad_of(grad_weights, 0), grad_of(grad_weights, 1));
    work.convs.push_back(task);
    work.input.x = task.conv.in;
    work.input.mode = Input::kRelu;
    work.input_wanted = want_x;
    grad_x = want_x ? device_.empty_channels_last(N_, shape_.I, shape_.H, shape_.W, ScalarTypeOf<S>::value)
                    : at::empty({0}, x_.options());
    if (want_x) work.input.out = x_view(device_.write<S>(grad_x));
    if (want_x || want_params) run_backward_convs<S>(device_, counters_, {work}, N_, batch_stats, want_params, eps_);
    if (want_params) sums.reduce();
    return result;
  }

 private:
  static constexpr int64_t kMaxBlocks = 4096;

  View x_view(const S* data) const { return view_of<S>(data, shape_.H, shape_.W, shape_.I, shape_.I); }
  View out_view(const S* data) const { return view_of<S>(data, shape_.h, shape_.w, shape_.O, shape_.O); }
  NormView norm(const Tensor& stats) const {
    const bool affine = !affine_.tensors().empty();
    return {device_.read<float>(stats), affine_.view(affine ? 0 : -1), affine_.view(affine ? 1 : -1)};
  }
  Conv2d conv() const {
    Conv2d c{};
    c.shape = shape_;
    c.in = x_view(device_.read<S>(x_));
    c.mode = Input::kRelu;
    c.product = weights_.view(0);
    c.product2 = weights_.view(shape_.split > 0 ? 1 : -1);
    return c;
  }

  const DeviceCall& device_;
  const Tensor x_;
  const Params weights_, affine_;
  const double eps_;
  const int64_t N_;
  Counters counters_;
  ConvShape shape_;
};

ReluConvBnForward relu_conv_bn_forward_cuda(const Tensor& x, TensorList weights, TensorList affine,
                                            const std::optional<Tensor>& stats, double eps, bool recompute) {
  check_relu_conv_bn(x, weights, affine, stats, Kernels::kCuda);
  return dispatch_device("relu_conv_bn", x.scalar_type(), [&]<class S>() -> ReluConvBnForward {
    const DeviceCall device(x);
    const auto dtype = x.scalar_type();
    int64_t O = 0;
    for (const Tensor& w : weights) O += w.size(0);
    const int64_t stride = static_cast<int64_t>(weights.size()), h = x.size(2) / stride, w = x.size(3) / stride;
    if (x.size(0) == 0)
      return {device.empty_channels_last(0, O, h, w, dtype), device.zeros({1, 2, O}, at::kFloat),
              device.empty({0}, dtype)};
    ReluConvBnDevice<S> op(device, x, weights, affine, eps);
    Tensor used =
        stats.has_value() ? stats->to(at::kFloat, false, true).contiguous() : device.empty({1, 2, O}, at::kFloat);
    Tensor saved = device.empty({op.out_elements()}, dtype),
           out = device.empty_channels_last(x.size(0), O, h, w, dtype);
    op.convolve(saved, stats.has_value() ? Tensor() : used);
    op.normalise(saved, used, out);
    if (recompute) saved = device.empty({0}, dtype);
    return {out, used, saved};
  });
}

ReluConvBnBackward relu_conv_bn_backward_cuda(const Tensor& grad_out, const Tensor& x, TensorList weights,
                                              TensorList affine, const Tensor& stats, const Tensor& saved, double eps,
                                              bool batch_stats, bool want_x, bool want_params) {
  return dispatch_device("relu_conv_bn", x.scalar_type(), [&]<class S>() -> ReluConvBnBackward {
    const DeviceCall device(x);
    const auto zeros = [&](TensorList params) {
      std::vector<Tensor> out;
      for (size_t i = 0; want_params && i < params.size(); ++i)
        out.push_back(device.zeros(params[i].sizes(), params[i].scalar_type()));
      return out;
    };
    if (x.size(0) == 0)
      return {want_x ? at::empty_like(x, at::MemoryFormat::ChannelsLast) : at::empty({0}, x.options()), zeros(weights),
              zeros(affine)};
    ReluConvBnDevice<S> op(device, x, weights, affine, eps);
    Tensor y = saved;
    if (y.numel() == 0) {
      y = device.empty({op.out_elements()}, x.scalar_type());
      op.convolve(y, Tensor());
    }
    ReluConvBnBackward r = op.backward(channels_last(grad_out.to(x.scalar_type())), stats.contiguous(), y, batch_stats,
                                       want_x, want_params);
    auto& [grad_x, grad_weights, grad_affine] = r;
    for (size_t i = 0; i < grad_weights.size(); ++i) grad_weights[i] = grad_weights[i].to(weights[i].scalar_type());
    for (size_t i = 0; i < grad_affine.size(); ++i) grad_affine[i] = grad_affine[i].to(affine[i].scalar_type());
    return r;
  });
}

}  // namespace

NASFAST_DEVICE_IMPL(relu_conv_bn, m) {
  m.impl("_relu_conv_bn_forward", relu_conv_bn_forward_cuda);
  m.impl("_relu_conv_bn_backward", relu_conv_bn_backward_cuda);
}

}  // namespace nasfast::mixed_op
