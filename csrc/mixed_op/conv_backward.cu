// Convolutions of the mixed op, backward. Two kinds of blocks in one launch, so that what both read comes from memory
// once: gradients of inputs (input_gradient.cuh), and gradients of weights where they are wanted (weight_gradient.cuh).
//
//   dL/dy    a*G + b*y + c per channel (products.cu), worked out while it is read, never stored
//   input    dL/dx = mask * sum over convolutions of front^T(product^T dL/dy), + pools^T + w*G of skips + what flows in
//            from elsewhere. A block: 8 x 8 pixels of the input, NB channels, all convolutions, pools and skips that
//            leave the state: the gradient is summed in shared memory and written once. dL/dy is taken to the front's
//            output over the tile and its halo (products are repeated on the halo, which costs less than a pass through
//            memory), then the depthwise convolution runs backwards from shared memory: a gather, so no atomics.
//            Behind a BatchNorm (second convolutions) it also takes sum gz and sum gz*y, and the last block works out
//            that BatchNorm's gradients.
//   weights  dW = dL/dy^T * front(x) and, for the depthwise kernel, sum of (product^T dL/dy) * x shifted. A block: one
//            convolution, 16 input channels, OB = NB output channels, a share of the tiles, sums kept in registers; the
//            front is computed again from the input. Shares are added up in order by reduce_weights.cu.
//   sums     float32 (16-bit types: products on tensor cores); BatchNorm's in float64 at the end. Fixed order.
#include "../core/launch.h"
#include "input_gradient.cuh"
#include "kernels_cuda.h"
#include "weight_gradient.cuh"

namespace nasfast::mixed_op {
namespace {

template <class S, int NB>
__global__ void __launch_bounds__(kConvThreads, 4) conv_backward_kernel(const NASFAST_GRID_CONSTANT BackwardArgs args) {
  SharedArena arena;
  if (static_cast<int>(blockIdx.x) < args.input_blocks)
    input_gradient<S, NB>(args, arena);
  else
    weight_gradient<S, NB>(args, arena);
}

template <class S, int NB>
void launch_width(const BackwardArgs& args, int64_t blocks, cudaStream_t stream) {
  const size_t input = InputShared<S, NB>::bytes(args), weight = WeightShared<S, NB>::bytes(args);
  const size_t shared = args.input_blocks == 0        ? weight
                        : blocks == args.input_blocks ? input
                        : input > weight              ? input
                                                      : weight;
  const char* name = "conv_backward";
  launch({name, make_grid(name, blocks), dim3(kConvThreads), shared, stream}, conv_backward_kernel<S, NB>, args);
}

}  // namespace

template <class S>
void launch_conv_backward(const BackwardArgs& args, int width, int64_t blocks, cudaStream_t stream) {
  if (width == 16) return launch_width<S, 16>(args, blocks, stream);
  launch_width<S, 32>(args, blocks, stream);
}

template void launch_conv_backward<float>(const BackwardArgs&, int, int64_t, cudaStream_t);
template void launch_conv_backward<bf16_t>(const BackwardArgs&, int, int64_t, cudaStream_t);
template void launch_conv_backward<half_t>(const BackwardArgs&, int, int64_t, cudaStream_t);

}  // namespace nasfast::mixed_op
