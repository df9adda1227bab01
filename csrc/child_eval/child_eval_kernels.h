// Kernels of batched child evaluation: what they take, without torch headers. float32.
//
// Values as in core/conv_shape.h.
//
// Each kernel sums in an order that depends on shapes alone: the bits of an image's result do not depend on which slice
// it lies in, nor on the thread.
#pragma once

#include "../core/conv_shape.h"
#include "../core/isa.h"

namespace nasfast::child_eval {

// act(scale * v + shift), per channel, padded to whole blocks; null scale: act(v).
struct Affine {
  const float* scale = nullptr;
  const float* shift = nullptr;
  Act act = Act::kNone;
  bool empty() const { return !scale && act == Act::kNone; }
};

// 1x1 expansion (null: none), depthwise, 1x1 projection. Products as [blocks out][blocks in][8][8], depthwise
// [B][k*k][8].
struct InvertedResidual {
  const float *expand, *depthwise, *project;
  Affine expanded, spread, projected;
  int hidden_blocks;
  bool residual;
};

struct Kernels {
  // out = after(conv(before(x))) with dense weights [NB][KB][k*k][8 in][8 out].
  void (*conv)(const ConvShape&, const float* x, const Affine& before, const float* w, const Affine& after,
               float* scratch, float* out);
  void (*depthwise)(const ConvShape&, const float* x, const Affine& before, const float* w, const Affine& after,
                    float* scratch, float* out);
  void (*inverted_residual)(const ConvShape&, const float* x, const InvertedResidual&, float* scratch, float* out);
  // Padding is not counted. Maximum: NaN wins, as in torch.
  void (*pool)(const ConvShape&, PoolKind, const float* x, float* scratch, float* out);
  // out = after(x) + residual (null: none); out may be x.
  void (*affine)(int blocks, int pixels, const float* x, const Affine& after, const float* residual, float* out);
  // out = xs[0] + xs[1] + ..., left to right
  void (*sum)(int blocks, int pixels, const float* const* xs, int count, float* out);
  // Mean and sum of squared deviations of every channel of a slice.
  void (*moments)(int blocks, int pixels, const float* x, double* mean, double* squares);
  // out[n][classes] = w [classes][B*8] * mean over the image + bias
  void (*head)(int images, int blocks, int pixels_per_image, const float* x, const float* w, const float* bias,
               int classes, float* scratch, float* out, ptrdiff_t out_stride);
};

// Elements of scratch that the kernels want.
int64_t conv_scratch(const ConvShape&);
int64_t depthwise_scratch(const ConvShape&);
int64_t inverted_residual_scratch(const ConvShape&);
int64_t pool_scratch(const ConvShape&);

// How inverted_residual cuts its work: hidden blocks at a time (of the shape alone: they fix the order of summation),
// and images at a time.
struct ResidualTiles {
  int hidden, images;
};
ResidualTiles residual_tiles(const ConvShape&);

// Output pixels that a 1x1 convolution gathers at a time where it cannot read in place.
int gather_pixels(const ConvShape&);

const Kernels& kernels();  // of the active instruction set

}  // namespace nasfast::child_eval

namespace nasfast {
namespace baseline {
const child_eval::Kernels& child_eval_kernels();
}
namespace avx2 {
const child_eval::Kernels& child_eval_kernels();
}
namespace avx512 {
const child_eval::Kernels& child_eval_kernels();
}
}  // namespace nasfast
