// The per-image CPU kernels of the mixed op, as a table of functions for one storage type. No torch header here.
//
// Letters as in core/types.h. S is the storage type, A the type it is computed in. Every pointer is to one image.
// `padded` images have `pad` zero columns on both sides: [B][H][W + 2*pad][8].
#pragma once

#include <cstddef>

#include "../core/isa.h"
#include "../core/types.h"

namespace nasfast::mixed_op {

// How a convolution reads its input before the pointwise product.
enum class Front : int {
  kDepthwise,  // depthwise kernel_h x kernel_w: B input blocks give B product blocks
  kTaps,       // `taps` shifted copies of the input, one after another: B input blocks give taps*B product blocks
};

inline constexpr int kMaxTaps = 7;

// front -> pointwise, the unit that has one output y and one BatchNorm.
struct ConvGeometry {
  Front front;
  int blocks_in, blocks_out;                               // channel blocks of the input and of y
  int H, W, pad;                                           // input image and the horizontal padding of its scratch copy
  int h, w;                                                // output image
  int kernel, stride_h, stride_w, dilation, pad_h, pad_w;  // depthwise: kernel x kernel
  int split = -1;  // kTaps, if not -1: output channels below it read tap 0 alone, the others tap 1 (two convolutions)
  int taps;
  int tap_y[kMaxTaps], tap_x[kMaxTaps];  // offsets of the taps from output * stride

  NASFAST_INLINE int product_blocks() const { return front == Front::kTaps ? taps * blocks_in : blocks_in; }
  NASFAST_INLINE int padded_width() const { return W + 2 * pad; }
  NASFAST_INLINE int dy_width() const { return w + 2 * pad; }
};

// dy = a*g + b*y + c, per channel: the gradient at a convolution's output from the gradient behind its BatchNorm.
template <class S>
struct GradSource {
  const acc_t<S>* g;
  const S* y;  // null where b = 0
  const acc_t<S>*a, *b, *c;
};

// Weights of one convolution, packed. product: panels [NB][KB*8][8]; transposed: panels [KB][NB*8][8].
template <class A>
struct PackedWeights {
  const A *depthwise, *flipped, *product, *transposed;
};

// Accumulators of the weight gradients: depthwise [B][k*k][8], product row-major [NB*8][KB*8]; null: not wanted.
template <class A>
struct WeightGrads {
  A *depthwise, *product;
};

template <class S>
struct NodeInput {  // out += scale * y, blocked, y null for none
  const S* y;
  const acc_t<S>* scale;
};

template <class S>
struct SkipInput {  // out += weight * x, channels last
  const S* x;
  ptrdiff_t pixel_stride;
  acc_t<S> weight;
};

template <class S>
struct KernelTable {
  using A = acc_t<S>;

  // Channels-last image -> blocks: `raw` unpadded, `relu` padded; either may be null.
  void (*load_state)(const S* x, ptrdiff_t pixel_stride, int C, int H, int W, int pad, A* raw, A* relu);
  // dst = scale*y + shift, through relu where asked, padded; channels past C are zero whatever y holds there.
  void (*load_affine)(const S* y, const A* scale, const A* shift, bool relu, int C, int H, int W, int pad, A* dst);
  // Writes y, blocked, and stats = {shift, sum(y - shift), sum((y - shift)^2)}, each [NB*8]; stats may be null.
  void (*conv_forward)(const ConvGeometry&, const A* x, const PackedWeights<A>&, A* tile, S* y, A* stats);
  // gx (padded like x; null: not wanted) += gradient of the input before its relu; = where not `add`.
  void (*conv_backward)(const ConvGeometry&, const A* x, const GradSource<S>&, const PackedWeights<A>&, A* tile,
                        A* padded_dy, A* gx, bool add, const WeightGrads<A>&);
  // Both 3x3 pools of a raw image, with statistics as above (null: none), and the taps of the maxima (null: none).
  void (*pools_forward)(const A* raw, int blocks, int H, int W, int stride, int h, int w, S* average, S* maximum,
                        A* average_stats, A* maximum_stats, uint8_t* tap);
  void (*pools_backward)(const A* g_average, const A* g_maximum, const uint8_t* tap, int blocks, int H, int W,
                         int stride, int h, int w, A* g_raw);
  // out (channels last) = sum of inputs + shift
  void (*node_sum)(const NodeInput<S>*, int inputs, const SkipInput<S>*, int skips, const A* shift, int C, int pixels,
                   S* out, ptrdiff_t out_stride);
  // sums[0] = sum g, sums[1 + i] = sum g*y_i, then sum g*x of the skips; each [B*8].
  void (*products)(const A* g, const S* const* ys, int inputs, const SkipInput<S>* skips, int skip_count, int C,
                   int pixels, A* sums);
  // out += a*g + b*y + c, blocked
  void (*add_grad)(const GradSource<S>&, int blocks, int pixels, A* out);
  // gz = gv where v > 0 (v = the padded input of a second convolution; null: everywhere), sums = {sum gz, sum gz*y}.
  void (*mask_grad)(const A* gv, const A* v, const S* y, int blocks, int H, int W, int pad, A* gz, A* sums);
  // Gradient of a state: masked conv part (padded) + raw part + weight * g of the skips + `extra` (channels last).
  // Written to `blocked` or to `out` (channels last), whichever is not null. Null parts count as zero.
  void (*state_grad)(const A* relu, const A* g_relu, const A* g_raw, const A* const* skip_g, const A* skip_w, int skips,
                     const S* extra, ptrdiff_t extra_stride, int C, int H, int W, int pad, A* blocked, S* out,
                     ptrdiff_t out_stride);
};

// Of the active instruction set.
template <class S>
const KernelTable<S>& kernel_table();

// Elements of the `tile` scratch that conv_forward and conv_backward want.
int64_t conv_tile_elements(const ConvGeometry& geometry);
// Output rows they work on at a time.
int conv_tile_rows(const ConvGeometry& geometry);

}  // namespace nasfast::mixed_op

namespace nasfast {
namespace baseline {
template <class S>
const mixed_op::KernelTable<S>& mixed_op_kernels();
}
namespace avx2 {
template <class S>
const mixed_op::KernelTable<S>& mixed_op_kernels();
}
namespace avx512 {
template <class S>
const mixed_op::KernelTable<S>& mixed_op_kernels();
}
}  // namespace nasfast
