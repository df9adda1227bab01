// From tensors and shapes to the arguments of kernels: views, parameters, counters, and how work is divided into
// blocks.
//
// How much work a block does depends on shapes alone, never on the device, so that results are the same on all of them.
#pragma once

#include <vector>

#include "../aten/device_call.h"
#include "../core/grid.h"
#include "device_args.h"
#include "graph.h"

namespace nasfast::mixed_op {

// [N, H, W, C] with `ld` elements between pixels. 32-bit arithmetic inside an image: checked here.
template <class S>
View view_of(const S* data, int64_t H, int64_t W, int64_t C, int64_t ld);

// Parameters in the dtypes that kernels read; others are converted.
class Params {
 public:
  Params(const DeviceCall& call, at::TensorList params);
  ParamView view(int index) const;  // -1: absent
  const std::vector<at::Tensor>& tensors() const { return params_; }

 private:
  const DeviceCall& call_;
  std::vector<at::Tensor> params_;
};

ParamView param_view(const DeviceCall& call, const at::Tensor& t, bool writable);
at::ScalarType param_type(at::ScalarType dtype);  // what kernels read and write for it

// Zeros for `last_block`, one buffer per call of an op.
class Counters {
 public:
  Counters(const DeviceCall& call, int64_t room) : buffer_(call.zeros({room}, at::kInt)) {
    next_ = call.write<uint32_t>(buffer_);
    end_ = next_ + room;
  }
  unsigned* take(int64_t count) {
    TORCH_INTERNAL_ASSERT(end_ - next_ >= count, "a call of the mixed op counted its reductions wrong");
    unsigned* first = next_;
    next_ += count;
    return first;
  }

 private:
  at::Tensor buffer_;
  uint32_t *next_, *end_;
};

ConvShape depthwise_shape(int kernel, int dilation, int stride, int64_t C, int64_t H, int64_t W);
ConvShape window_shape(int taps_h, int taps_w, int stride, int64_t C, int64_t H, int64_t W);
// A pointwise convolution, or with `split` a factorized reduction whose first weight has that many rows.
ConvShape pointwise_shape(int64_t I, int64_t O, int64_t split, int64_t H, int64_t W);
ConvShape shape_of_conv(const Conv& conv, int64_t channels, int64_t H, int64_t W);

inline int64_t tiles_of(int64_t N, int64_t h, int64_t w) { return N * ceil_div(h, kTile) * ceil_div(w, kTile); }
struct Runs {  // `count` runs of at most `tiles` tiles
  int count, tiles;
};
Runs runs_of(int64_t tiles);
// Blocks for a reduction over pixels: at most kMaxRuns, and enough work for each.
int runs_of_pixels(int64_t pixels);

// One convolution of a launch; convolutions of one `group` read the same input.
struct PlannedConv {
  ForwardConv task;
  int group;
};
// Runs them all, with statistics where task.stats is given.
template <class S>
void run_forward_convs(const DeviceCall& call, Counters& counters, std::vector<PlannedConv> convs, int64_t N,
                       double eps);

}  // namespace nasfast::mixed_op
