#include "launch_plan_cuda.h"

#include <algorithm>

#include "kernels_cuda.h"

namespace nasfast::mixed_op {

template <class S>
View view_of(const S* data, int64_t H, int64_t W, int64_t C, int64_t ld) {
  constexpr int64_t kPack = 16 / sizeof(S);
  const char* name = "mixed_op";
  checked_int(name, "elements of one image (H * W * C)", H * W * ld);
  const bool vector = reinterpret_cast<uintptr_t>(data) % 16 == 0 && C % kPack == 0 && ld % kPack == 0;
  return {const_cast<S*>(data), static_cast<int>(H),  static_cast<int>(W),
          static_cast<int>(C),  static_cast<int>(ld), vector};
}

template View view_of<float>(const float*, int64_t, int64_t, int64_t, int64_t);
template View view_of<bf16_t>(const bf16_t*, int64_t, int64_t, int64_t, int64_t);
template View view_of<half_t>(const half_t*, int64_t, int64_t, int64_t, int64_t);

at::ScalarType param_type(at::ScalarType dtype) {
  return dtype == at::kBFloat16 || dtype == at::kHalf ? dtype : at::kFloat;
}

ParamView param_view(const DeviceCall& call, const at::Tensor& t, bool writable) {
  const auto pointer = [&]<class T>(Element type) -> ParamView {
    return {writable ? call.write<T>(t) : const_cast<T*>(call.read<T>(t)), type};
  };
  switch (t.scalar_type()) {
    case at::kBFloat16:
      return pointer.operator()<bf16_t>(Element::kBFloat16);
    case at::kHalf:
      return pointer.operator()<half_t>(Element::kHalf);
    default:
      return pointer.operator()<float>(Element::kFloat);
  }
}

Params::Params(const DeviceCall& call, at::TensorList params) : call_(call) {
  for (const at::Tensor& t : params) params_.push_back(t.to(param_type(t.scalar_type())).contiguous());
}

ParamView Params::view(int index) const {
  return index < 0 ? ParamView{nullptr, Element::kFloat} : param_view(call_, params_[index], false);
}

ConvShape depthwise_shape(int kernel, int dilation, int stride, int64_t C, int64_t H, int64_t W) {
  ConvShape s{};
  s.kernel = kernel;
  s.dilation = dilation;
  s.pad = dilation * (kernel - 1) / 2;
  s.taps = 1;
  s.stride_y = s.stride_x = stride;
  s.I = s.O = static_cast<int>(C);
  s.H = static_cast<int>(H);
  s.W = static_cast<int>(W);
  s.h = static_cast<int>(ceil_div(H, stride));
  s.w = static_cast<int>(ceil_div(W, stride));
  return s;
}

ConvShape window_shape(int taps_h, int taps_w, int stride, int64_t C, int64_t H, int64_t W) {
  ConvShape s = pointwise_shape(C, C, 0, H, W);
  s.taps = taps_h * taps_w;
  s.step_y = s.step_x = 0;
  if (taps_h > 1) {
    s.step_y = 1;
    s.tap_y = -(taps_h / 2);
    s.stride_y = stride;
  }
  if (taps_w > 1) {
    s.step_x = 1;
    s.tap_x = -(taps_w / 2);
    s.stride_x = stride;
  }
  s.h = static_cast<int>(ceil_div(H, s.stride_y));
  s.w = static_cast<int>(ceil_div(W, s.stride_x));
  return s;
}

ConvShape pointwise_shape(int64_t I, int64_t O, int64_t split, int64_t H, int64_t W) {
  ConvShape s{};
  s.taps = split > 0 ? 2 : 1;
  s.step_y = s.step_x = 1;
  s.stride_y = s.stride_x = s.taps;
  s.I = static_cast<int>(I);
  s.O = static_cast<int>(O);
  s.H = static_cast<int>(H);
  s.W = static_cast<int>(W);
  s.h = static_cast<int>(H / s.taps);
  s.w = static_cast<int>(W / s.taps);
  s.split = static_cast<int>(split);
  return s;
}

ConvShape shape_of_conv(const Conv& conv, int64_t channels, int64_t H, int64_t W) {
  if (conv.front == Front::kDepthwise) return depthwise_shape(conv.kernel, conv.dilation, conv.stride, channels, H, W);
  if (conv.taps_h == 0) return pointwise_shape(channels, channels, channels / 2, H, W);
  return window_shape(conv.taps_h, conv.taps_w, conv.stride, channels, H, W);
}

Runs runs_of(int64_t tiles) {
  const int64_t each = ceil_div(tiles, kMaxRuns);
  return {static_cast<int>(ceil_div(tiles, each)), static_cast<int>(each)};
}

int runs_of_pixels(int64_t pixels) {
  constexpr int64_t kPixels = 256;  // of a run: a few for every thread
  return static_cast<int>(std::clamp<int64_t>(ceil_div(pixels, kPixels), 1, kMaxRuns));
}

namespace {

int64_t shared_input_elements(const ConvShape& s, int halo) {
  const int reach = (kTile - 1) * s.stride_y + 1 + 2 * halo;
  return s.kernel > 0 ? static_cast<int64_t>(reach) * (reach | 1) * kChunk : 4;
}

// Whether a block computes both from one tile of the input.
bool one_group(const PlannedConv& a, const PlannedConv& b) {
  const ConvShape &s = a.task.conv.shape, &t = b.task.conv.shape;
  return a.group == b.group && s.kernel > 0 && t.kernel > 0 && s.stride_y == t.stride_y && s.I <= kChunk;
}

int width_of(int channels) { return channels <= 16 ? 16 : channels <= 32 ? 32 : 64; }

template <class S>
void launch_forward(const DeviceCall& call, Counters& counters, PlannedConv* convs, int count, int64_t N, double eps) {
  const char* name = "conv_forward";
  ForwardArgs args{};
  args.N = checked_int(name, "batch", N);
  args.eps = static_cast<float>(eps);
  args.tile_elements = args.kernel_elements = args.norm_elements = 4;
  int width = 16;
  int64_t partial_elements = 0;
  for (int i = 0; i < count; ++i) {
    const ConvShape& s = convs[i].task.conv.shape;
    width = std::max(width, width_of(s.O));
    if (convs[i].task.stats) partial_elements += 4LL * s.O * runs_of(tiles_of(N, s.h, s.w)).count;
  }
  at::Tensor partial = call.empty({partial_elements}, at::kFloat);
  float* next = call.write<float>(partial);
  int64_t blocks = 0;
  for (int i = 0; i < count; ++i) {
    ForwardConv& task = args.conv[i] = convs[i].task;
    const ConvShape& s = task.conv.shape;
    const int64_t tiles = checked_int(name, "tiles of 8 x 8 pixels", tiles_of(N, s.h, s.w));
    const Runs runs = runs_of(tiles);
    if (task.stats) {
      task.partial = next;
      next += 4LL * s.O * runs.count;
    }
    if (i > 0 && one_group(convs[i - 1], convs[i])) {
      ForwardGroup& group = args.group[args.groups - 1];
      ++group.count;
      group.halo = std::max(group.halo, s.pad);
      group.shared_tile = true;
    } else {
      const int64_t chunks = ceil_div(s.O, width);
      args.group[args.groups++] = {i,     1,     checked_int(name, "blocks", blocks),         runs.count, runs.tiles,
                                   s.pad, false, task.stats ? counters.take(chunks) : nullptr};
      blocks += chunks * runs.count;
    }
    if (s.kernel > 0) args.kernel_elements = std::max(args.kernel_elements, s.kernel * s.kernel * kChunk);
    if (task.conv.mode == Input::kNormRelu)
      args.norm_elements = std::max(args.norm_elements, 2 * static_cast<int>(ceil_div(s.I, kChunk)) * kChunk);
  }
  for (int g = 0; g < args.groups; ++g)
    args.tile_elements = std::max(
        args.tile_elements,
        static_cast<int>(shared_input_elements(args.conv[args.group[g].first].conv.shape, args.group[g].halo)));
  launch_conv_forward<S>(args, width, blocks, call.stream());
}

}  // namespace

template <class S>
void run_forward_convs(const DeviceCall& call, Counters& counters, std::vector<PlannedConv> convs, int64_t N,
                       double eps) {
  for (size_t i = 0; i < convs.size(); i += kMaxForwardConvs)
    launch_forward<S>(call, counters, convs.data() + i,
                      static_cast<int>(std::min<size_t>(convs.size() - i, kMaxForwardConvs)), N, eps);
}

template void run_forward_convs<float>(const DeviceCall&, Counters&, std::vector<PlannedConv>, int64_t, double);
template void run_forward_convs<bf16_t>(const DeviceCall&, Counters&, std::vector<PlannedConv>, int64_t, double);
template void run_forward_convs<half_t>(const DeviceCall&, Counters&, std::vector<PlannedConv>, int64_t, double);

}  // namespace nasfast::mixed_op
