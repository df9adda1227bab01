// shuffle_channels on CUDA. The mixed channels are read where they lie: a slice of a graph's nodes is not copied.
#include "../aten/device_call.h"
#include "../core/grid.h"
#include "contract.h"
#include "kernels_cuda.h"

namespace nasfast::mixed_op {
namespace {

using at::Tensor;

// The tensor with channels side by side, and the elements between its pixels.
struct Pixels {
  Tensor tensor;
  int64_t ld;
};

Pixels pixels_of(const Tensor& t) {
  const int64_t H = t.size(2), W = t.size(3), ld = t.stride(3);
  if (t.stride(1) == 1 && ld >= t.size(1) && t.stride(2) == W * ld && t.stride(0) == H * W * ld) return {t, ld};
  return {channels_last(t), t.size(1)};
}

// f with a type of the elements' width, which kernels move, and with their own.
template <class F>
void with_element(at::ScalarType dtype, F&& f) {
  if (dtype == at::kHalf) return f.template operator()<half_t, half_t>();
  if (dtype == at::kBFloat16) return f.template operator()<half_t, bf16_t>();
  if (dtype == at::kFloat) return f.template operator()<float, float>();
  TORCH_CHECK(dtype == at::kDouble, "shuffle_channels: mixed must be float16, bfloat16, float32 or float64, got ",
              dtype);
  f.template operator()<double, double>();
}

ShuffleArgs shuffle_args(const Tensor& like, int64_t mixed, int64_t passed, int64_t groups) {
  const char* name = "shuffle";
  ShuffleArgs args{};
  args.pixels = like.size(0) * like.size(2) * like.size(3);
  args.M = checked_int(name, "channels", mixed);
  args.P = checked_int(name, "channels", passed);
  checked_int(name, "channels", mixed + passed);
  args.groups = checked_int(name, "groups", groups);
  args.mixed_ld = mixed;
  args.passed_ld = passed;
  return args;
}

Tensor shuffle_forward_cuda(const Tensor& mixed, const Tensor& passed, int64_t groups) {
  check_shuffle(mixed, passed, groups);
  const DeviceCall device(mixed);
  Tensor out;
  with_element(mixed.scalar_type(), [&]<class T, class Typed>() {
    ShuffleArgs args = shuffle_args(mixed, mixed.size(1), passed.size(1), groups);
    out = device.empty_channels_last(mixed.size(0), args.M + args.P, mixed.size(2), mixed.size(3), mixed.scalar_type());
    if (out.numel() == 0) return;
    const Pixels a = pixels_of(mixed), b = pixels_of(passed);
    args.whole = device.write<Typed>(out);
    args.mixed = const_cast<Typed*>(device.read<Typed>(a.tensor));
    args.passed = const_cast<Typed*>(device.read<Typed>(b.tensor));
    args.mixed_ld = a.ld;
    args.passed_ld = b.ld;
    launch_shuffle<T>(args, device.stream());
  });
  return out;
}

std::tuple<Tensor, Tensor> shuffle_backward_cuda(const Tensor& grad, int64_t mixed_channels, int64_t groups) {
  const DeviceCall device(grad);
  const int64_t N = grad.size(0), C = grad.size(1), H = grad.size(2), W = grad.size(3);
  const auto dtype = grad.scalar_type();
  Tensor mixed = device.empty_channels_last(N, mixed_channels, H, W, dtype);
  Tensor passed = device.empty_channels_last(N, C - mixed_channels, H, W, dtype);
  with_element(dtype, [&]<class T, class Typed>() {
    if (grad.numel() == 0) return;
    ShuffleArgs args = shuffle_args(grad, mixed_channels, C - mixed_channels, groups);
    const Tensor whole = channels_last(grad);
    args.whole = const_cast<Typed*>(device.read<Typed>(whole));
    args.mixed = device.write<Typed>(mixed);
    args.passed = device.write<Typed>(passed);
    launch_unshuffle<T>(args, device.stream());
  });
  return {mixed, passed};
}

}  // namespace

NASFAST_DEVICE_IMPL(channel_shuffle, m) {
  m.impl("shuffle_channels", shuffle_forward_cuda);
  m.impl("_shuffle_channels_backward", shuffle_backward_cuda);
}

}  // namespace nasfast::mixed_op
