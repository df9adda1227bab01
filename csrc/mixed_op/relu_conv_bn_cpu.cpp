// relu -> pointwise -> BatchNorm on the CPU: the convolution kernel of the mixed op with a front of one tap, or two for
// a factorized reduction. The relu is applied on the way in and never stored.
#include "relu_conv_bn_cpu.h"

#include "pack_cpu.h"

namespace nasfast::mixed_op {
namespace {

ConvGeometry geometry(const ReluConvBnCall& call, int64_t out_channels) {
  ConvGeometry g{};
  g.front = Front::kTaps;
  g.blocks_in = static_cast<int>(blocks_of(call.x.size(1)));
  g.blocks_out = static_cast<int>(blocks_of(out_channels));
  g.H = static_cast<int>(call.x.size(2));
  g.W = static_cast<int>(call.x.size(3));
  g.taps = static_cast<int>(call.weights.size());
  g.stride_h = g.stride_w = g.taps;
  g.tap_y[1] = g.tap_x[1] = 1;
  if (g.taps == 2) g.split = static_cast<int>(call.weights[0].size(0));
  g.h = g.H / g.taps;
  g.w = g.W / g.taps;
  return g;
}

int64_t out_channels(const ReluConvBnCall& call) {
  int64_t o = 0;
  for (const at::Tensor& w : call.weights) o += w.size(0);
  return o;
}

}  // namespace

template <class S>
ReluConvBnCpu<S>::ReluConvBnCpu(const ReluConvBnCall& call, bool backward)
    : call_(call),
      N_(call.x.size(0)),
      O_(out_channels(call)),
      Op_(padded_channels(O_)),
      g_(geometry(call, O_)),
      k_(kernel_table<S>()) {
  const auto options = at::TensorOptions().dtype(scalar_type_of<A>());
  const int64_t product = Op_ * g_.product_blocks() * kLanes;
  packed_ = cached_empty({(backward ? 2 : 1) * product}, scalar_type_of<A>());
  A* p = packed_.template data_ptr<A>();
  std::vector<at::Tensor> plain;
  for (const at::Tensor& w : call.weights) plain.push_back(w.to(options).contiguous());
  const A* second = plain.size() > 1 ? plain[1].template data_ptr<A>() : nullptr;
  pack_product<A>({plain[0].template data_ptr<A>(), second, O_, call.x.size(1), g_.taps, plain[0].size(0)}, p,
                  backward ? p + product : nullptr);
  weights_ = {nullptr, nullptr, p, backward ? p + product : nullptr};
  norm_ = at::zeros({5, Op_}, options);
  if (!call.affine.empty()) {
    gamma_ = at::zeros({Op_}, options);
    beta_ = at::zeros({Op_}, options);
    gamma_.narrow(0, 0, O_).copy_(call.affine[0]);
    beta_.narrow(0, 0, O_).copy_(call.affine[1]);
  }
}

template <class S>
NormVectors<typename ReluConvBnCpu<S>::A> ReluConvBnCpu<S>::norm() const {
  A* rows = norm_.template data_ptr<A>();
  return {rows,
          rows + Op_,
          gamma_.defined() ? gamma_.template data_ptr<A>() : nullptr,
          beta_.defined() ? beta_.template data_ptr<A>() : nullptr,
          rows + 2 * Op_,
          rows + 3 * Op_,
          rows + 4 * Op_};
}

// f(image, share, scratch): the relu'd input, then a tile; for backward also the input's and the output's gradient.
template <class S>
void ReluConvBnCpu<S>::each_image(bool backward, const std::function<void(int64_t, int64_t, A*)>& f) {
  const int64_t shares = image_shares(N_);
  const int64_t room = x_elements() * (backward ? 2 : 1) + conv_tile_elements(g_);
  at::Tensor scratch = cached_empty({shares, room}, scalar_type_of<A>());
  for_image_shares(N_, shares, [&](int64_t share, int64_t begin, int64_t end) {
    for (int64_t n = begin; n < end; ++n) f(n, share, scratch.template data_ptr<A>() + share * room);
  });
}

template <class S>
void ReluConvBnCpu<S>::convolve(const at::Tensor& y, A* partial) {
  each_image(false, [&](int64_t n, int64_t, A* scratch) {
    k_.load_state(x_image(n), call_.x.size(1), call_.x.size(1), g_.H, g_.W, 0, nullptr, scratch);
    k_.conv_forward(g_, scratch, weights_, scratch + x_elements(), y_image(y, n),
                    partial ? partial + n * 3 * Op_ : nullptr);
  });
}

template <class S>
void ReluConvBnCpu<S>::forward(at::Tensor& stats, bool batch_stats, at::Tensor& out, at::Tensor& saved) {
  const auto options = norm_.options();
  at::Tensor partial = at::empty({batch_stats ? N_ : 0, 3, Op_}, options);
  saved = cached_empty({N_ * y_elements()}, scalar_type_of<S>());
  convolve(saved, batch_stats ? partial.template data_ptr<A>() : nullptr);
  if (batch_stats)
    combine_stats(partial.template data_ptr<A>(), N_, Op_, static_cast<int64_t>(g_.h) * g_.w,
                  norm_.template data_ptr<A>(), norm_.template data_ptr<A>() + Op_);
  else
    norm_.narrow(0, 0, 2).narrow(1, 0, O_).copy_(stats[0]);
  norm_coefficients(norm(), call_.eps, O_, Op_);
  out = cached_empty_channels_last(N_, O_, g_.h, g_.w, scalar_type_of<S>());
  const NormVectors<A> v = norm();
  const int64_t pixels = static_cast<int64_t>(g_.h) * g_.w;
  for_image_shares(N_, image_shares(N_), [&](int64_t, int64_t begin, int64_t end) {
    for (int64_t n = begin; n < end; ++n) {
      const NodeInput<S> input{y_image(saved, n), v.scale};
      k_.node_sum(&input, 1, nullptr, 0, v.shift, O_, pixels, static_cast<S*>(out.data_ptr()) + n * pixels * O_, O_);
    }
  });
  if (batch_stats) stats = norm_.narrow(0, 0, 2).narrow(1, 0, O_).unsqueeze(0).clone();
}

template <class S>
typename ReluConvBnCpu<S>::Grads ReluConvBnCpu<S>::backward(const at::Tensor& grad_out, const at::Tensor& stats,
                                                            at::Tensor saved, bool batch_stats, bool want_x,
                                                            bool want_params) {
  const auto options = norm_.options();
  const int64_t pixels = static_cast<int64_t>(g_.h) * g_.w, I = call_.x.size(1), shares = image_shares(N_);
  norm_.narrow(0, 0, 2).narrow(1, 0, O_).copy_(stats[0]);
  norm_coefficients(norm(), call_.eps, O_, Op_);
  if (!saved.defined()) {
    saved = cached_empty({N_ * y_elements()}, scalar_type_of<S>());
    convolve(saved, nullptr);
  }
  at::Tensor g = cached_empty({N_ * y_elements()}, scalar_type_of<A>());
  at::Tensor partial = at::empty({N_, 2 * Op_}, options);
  for_image_shares(N_, shares, [&](int64_t, int64_t begin, int64_t end) {
    for (int64_t n = begin; n < end; ++n) {
      A* gn = g.template data_ptr<A>() + n * y_elements();
      k_.load_state(static_cast<const S*>(grad_out.const_data_ptr()) + n * pixels * O_, O_, O_, g_.h, g_.w, 0, gn,
                    nullptr);
      const S* y = y_image(saved, n);
      k_.products(gn, &y, 1, nullptr, 0, O_, pixels, partial.template data_ptr<A>() + n * 2 * Op_);
    }
  });
  std::vector<double> sums(2 * Op_, 0.0);
  for (int64_t n = 0; n < N_; ++n)
    for (int64_t i = 0; i < 2 * Op_; ++i) sums[i] += partial.template data_ptr<A>()[n * 2 * Op_ + i];
  at::Tensor abc = at::zeros({3, Op_}, options), norm_grads = at::zeros({2, Op_}, options);
  norm_backward(norm(), 1.0, static_cast<double>(N_ * pixels), batch_stats, sums.data(), sums.data() + Op_, O_, Op_,
                abc.template data_ptr<A>(), norm_grads.template data_ptr<A>());
  const int64_t product = Op_ * g_.product_blocks() * kLanes;
  at::Tensor weight_grads = at::zeros({want_params ? shares : 0, product}, options);
  at::Tensor grad_x = want_x ? cached_empty_channels_last(N_, I, g_.H, g_.W, scalar_type_of<S>()) : at::Tensor();
  const A* c = abc.template data_ptr<A>();
  each_image(true, [&](int64_t n, int64_t share, A* relu) {
    A *gx = relu + x_elements(), *tile = gx + x_elements();
    k_.load_state(x_image(n), I, I, g_.H, g_.W, 0, nullptr, relu);
    const GradSource<S> source{g.template data_ptr<A>() + n * y_elements(), batch_stats ? y_image(saved, n) : nullptr,
                               c, c + Op_, c + 2 * Op_};
    A* gw = want_params ? weight_grads.template data_ptr<A>() + share * product : nullptr;
    k_.conv_backward(g_, relu, source, weights_, tile, nullptr, want_x ? gx : nullptr, false, {nullptr, gw});
    if (want_x)
      k_.state_grad(relu, gx, nullptr, nullptr, nullptr, 0, nullptr, 0, I, g_.H, g_.W, 0, nullptr,
                    static_cast<S*>(grad_x.data_ptr()) + n * g_.H * g_.W * I, I);
  });
  return unpack(grad_x, want_params ? weight_grads.sum(0) : weight_grads, norm_grads, want_params);
}

template <class S>
typename ReluConvBnCpu<S>::Grads ReluConvBnCpu<S>::unpack(const at::Tensor& grad_x, const at::Tensor& product,
                                                          const at::Tensor& norm_grads, bool want_params) const {
  Grads grads{grad_x, {}, {}};
  if (!want_params) return grads;
  const int64_t I = call_.x.size(1);
  const at::Tensor all = product.view({Op_, g_.taps, g_.blocks_in * kLanes}).narrow(2, 0, I);
  int64_t row = 0;
  for (size_t t = 0; t < call_.weights.size(); ++t) {
    const at::Tensor& w = call_.weights[t];
    grads.weights.push_back(
        all.narrow(0, row, w.size(0)).select(1, t).to(w.scalar_type()).contiguous().view(w.sizes()));
    row += w.size(0);
  }
  for (size_t i = 0; i < call_.affine.size(); ++i)
    grads.affine.push_back(at::empty({O_}, call_.affine[i].options()).copy_(norm_grads[i].narrow(0, 0, O_)));
  return grads;
}

template class ReluConvBnCpu<float>;
template class ReluConvBnCpu<double>;
template class ReluConvBnCpu<bf16>;

}  // namespace nasfast::mixed_op
