// CPU kernels of the supernet's training step: what they take, as a table for one element type (float or double).
//
// A value is a slice of the batch, a few images, in blocks of eight channels, [B][block_stride(images*H*W)], as in
// core/conv_shape.h. It may be stored before its normalisation: whoever reads it makes act(scale*x + shift) of it on
// the way. Channels past C are zero in values, gradients and packed weights alike.
//
// Dense weights are packed twice: [NB][KB][taps][8 in][8 out], and for the gradient of the input
// [KB][NB][taps][8 out][8 in]. Depthwise weights are [B][taps][8]. Kernels sum in an order that depends on shapes
// alone.
#pragma once

#include "../core/conv_shape.h"
#include "../core/isa.h"

namespace nasfast::supernet {

// then(act(scale*x + shift)), `then` being what its reader begins with. Null scale: 1.
template <class A>
struct Read {
  const A* x = nullptr;
  const A *scale = nullptr, *shift = nullptr;  // per channel, padded to whole blocks
  Act act = Act::kNone, then = Act::kNone;
  bool plain() const { return !scale && act == Act::kNone && then == Act::kNone; }
};

// dy = a*g + b*(y - mean) + c behind a normalisation, g being masked by its activation. Null a: dy = g, masked.
template <class A>
struct NormGrad {
  const A *a = nullptr, *b = nullptr, *c = nullptr, *mean = nullptr;
};

template <class A>
struct Kernels {
  void (*conv)(const ConvShape&, const Read<A>&, const A* w, A* scratch, A* out);
  // gx (+)= gradient of what is read, before `then`; the rest of `x` says where `then` lets it pass.
  void (*conv_input_grad)(const ConvShape&, const A* dy, const A* transposed, const Read<A>& x, bool add, A* scratch,
                          A* gx);
  // gw += for input blocks [first, first + blocks): [blocks][taps][8 in][NB*8].
  void (*conv_weight_grad)(const ConvShape&, const Read<A>&, const A* dy, int first, int blocks, A* scratch, A* gw);
  void (*depthwise)(const ConvShape&, const Read<A>&, const A* w, A* scratch, A* out);
  // `w` as in the forward; at stride 1 with its taps reversed.
  void (*depthwise_input_grad)(const ConvShape&, const A* dy, const A* w, const Read<A>& x, bool add, A* scratch,
                               A* gx);
  void (*depthwise_weight_grad)(const ConvShape&, const Read<A>&, const A* dy, int first, int blocks, A* scratch,
                                A* gw);
  // 3x3 with padding 1, or 2x2 at stride 2. Padding is not counted; ties and NaN as in torch.
  void (*pool)(const ConvShape&, PoolKind, const Read<A>&, A* scratch, A* out);
  void (*pool_grad)(const ConvShape&, PoolKind, const Read<A>& x, const A* dy, bool add, A* scratch, A* gx);
  // out = the sum of what is read
  void (*combine)(int blocks, int pixels, const Read<A>* terms, int count, A* out);
  // gx (+)= g where `then` lets it pass
  void (*pass_grad)(int blocks, int pixels, const A* g, const Read<A>& x, bool add, A* gx);
  // Mean and sum of squared deviations of every channel of a slice.
  void (*moments)(int blocks, int pixels, const A* x, double* mean, double* squares);
  // sums[0] += sum g, sums[1] += sum g*(y - mean), each [B*8], g being masked by y's activation. Null mean: 0.
  void (*norm_sums)(int blocks, int pixels, const A* g, const Read<A>& y, const A* mean, double* sums);
  // dy may be g.
  void (*norm_grad)(int blocks, int pixels, const A* g, const Read<A>& y, const NormGrad<A>&, A* dy);
  // pooled [images][B*8] = means over the images; out[n][classes] = w [classes][B*8] * pooled + bias
  void (*head)(int images, int blocks, int pixels_per_image, const Read<A>&, const A* w, const A* bias, int classes,
               A* pooled, A* out, ptrdiff_t out_stride);
  // gx (+)= from g [n][classes]
  void (*head_input_grad)(int images, int blocks, int pixels_per_image, const A* g, ptrdiff_t g_stride, const A* w,
                          int classes, bool add, A* scratch, A* gx);
};

// Elements of scratch that the kernels want for a slice; of the weight gradients for `blocks` input blocks.
int64_t conv_scratch(const ConvShape&);
int64_t conv_input_grad_scratch(const ConvShape&);
int64_t conv_weight_grad_scratch(const ConvShape&, int blocks);
int64_t depthwise_scratch(const ConvShape&);
int64_t pool_scratch(const ConvShape&);

// Pixels that a 1x1 convolution gathers at a time where it cannot read in place.
int product_pixels(int blocks);

template <class A>
const Kernels<A>& kernels();  // of the active instruction set

}  // namespace nasfast::supernet

namespace nasfast {
namespace baseline {
template <class A>
const supernet::Kernels<A>& supernet_kernels();
}
namespace avx2 {
template <class A>
const supernet::Kernels<A>& supernet_kernels();
}
namespace avx512 {
template <class A>
const supernet::Kernels<A>& supernet_kernels();
}
}  // namespace nasfast
