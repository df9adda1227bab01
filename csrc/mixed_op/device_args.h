// What the CUDA kernels of the mixed op are told: plain structures, passed by value as kernel parameters.
//
// Letters: N batch, C channels, I/O channels of a convolution's input and output, H/W input size, h/w output size,
// S storage type. Every image is NHWC; `ld` is the number of elements between two pixels, so that one state can be a
// slice of the channels of a larger tensor. Needs no torch and no nvcc: the host side fills these in.
#pragma once

#include "../core/device_types.h"

// A large structure passed by value stays in constant memory and is never copied to a thread's local memory.
#if defined(NASFAST_SIMT) || !defined(__CUDACC__)
#define NASFAST_GRID_CONSTANT
#else
#define NASFAST_GRID_CONSTANT __grid_constant__
#endif

namespace nasfast::mixed_op {

inline constexpr int kTile = 8;  // a block works on kTile x kTile pixels of an image
inline constexpr int kTilePixels = kTile * kTile;
inline constexpr int kChunk = 16;              // channels it reads at a time
inline constexpr int kConvThreads = 128;       // kTile rows x kChunk channels
inline constexpr int kMaxRuns = 256;           // blocks that share one reduction: what the last of them has to add up
inline constexpr size_t kMaxArgBytes = 32764;  // of a kernel's parameters, sm_70 and later

enum class Element : int { kFloat, kBFloat16, kHalf };

// A parameter or its gradient in its own dtype; data null: absent.
struct ParamView {
  void* data;
  Element type;
};

struct View {  // [N][H][W][C]
  void* data;
  int H, W, C, ld;
  bool vector;  // whole 16-byte packs: address, ld and C are multiples of one
};

struct NormView {      // BatchNorm
  const float* stats;  // [2][C] mean, biased variance
  ParamView gamma, beta;
};

// How a convolution reads its input.
enum class Input : int { kPlain, kRelu, kNormRelu };

struct ConvShape {
  int kernel, dilation, pad;               // depthwise kernel x kernel; kernel 0: taps instead
  int taps, tap_y, tap_x, step_y, step_x;  // tap t reads pixel output*stride + (tap_y + t*step_y, tap_x + t*step_x)
  int stride_y, stride_x;
  int I, O, H, W, h, w;
  int split;  // not 0: rows of the product below it are `product` on tap 0, the others `product2` on tap 1
};

struct Conv2d {  // front -> pointwise
  ConvShape shape;
  View in;
  Input mode;
  NormView norm;  // for kNormRelu
  ParamView depthwise, product, product2;
};

// ---- forward --------------------------------------------------------------------------------------------------------

struct ForwardConv {
  Conv2d conv;
  View y;
  float* partial;  // [runs][4][O] moments, see statistics.cuh
  float* stats;    // [2][O]; null: not wanted
};

// Convolutions of one shape that one block computes one after another from the same tile.
struct ForwardGroup {
  int first, count;            // in `conv`
  int block, runs, run_tiles;  // first block; blocks per chunk of output channels; tiles of each
  int halo;                    // of the input tile, the largest of the group
  bool shared_tile;            // the input tile is loaded once (one chunk of channels)
  unsigned* counters;          // per chunk of output channels
};

inline constexpr int kMaxForwardConvs = 64;
struct ForwardArgs {
  ForwardConv conv[kMaxForwardConvs];
  ForwardGroup group[kMaxForwardConvs];
  int groups, N;
  float eps;
  int tile_elements, kernel_elements, norm_elements;  // shared memory, in floats
};

// Both 3x3 pools of a state: statistics only.
struct PoolState {
  View x;
  int stride, h, w;
  int block, runs;
  int first_norm, norms;
  float* partial;  // [runs][2][4][C] moments of the averages, of the maxima
  unsigned* counters;
};
struct PoolNorm {
  bool maximum;
  float* stats;  // [2][C]
};
inline constexpr int kMaxPoolStates = 64, kMaxPoolNorms = 512;
struct PoolArgs {
  PoolState state[kMaxPoolStates];
  PoolNorm norm[kMaxPoolNorms];
  int states, N;
};

// A node: the weighted sum of all candidates on all edges into it. Its rows are images and, per state, its two pools
// and the state itself.
struct NodeState {
  View x;
  int stride;                  // of the pools
  int average, maximum, skip;  // rows, -1 where absent
};
struct NodeTerm {       // scale of a row += w * BatchNorm's scale
  const float* weight;  // null: 1
  NormView norm;        // stats null: none
};
inline constexpr int kMaxNodeImages = 96, kMaxNodeStates = 24, kMaxNodeTerms = 192, kMaxNodeRows = 128;
struct NodeArgs {
  View image[kMaxNodeImages];
  NodeState state[kMaxNodeStates];
  NodeTerm term[kMaxNodeTerms];
  short first_term[kMaxNodeRows + 1];  // terms of row r: first_term[r] to first_term[r + 1]
  int images, states, rows, terms, N;
  View out;
  bool add;  // to what `out` holds
  float eps;
};

// ---- backward -------------------------------------------------------------------------------------------------------

// dL/dy = a*G + b*y + c behind a BatchNorm with gradient G: coefficients [3][C]. Null: dL/dy = G.
enum class RowKind : int { kImage, kAverage, kMaximum, kSkip };

struct ProductRow {
  RowKind kind;
  View x;               // y of a convolution, or the state
  NormView norm;        // stats null: none
  const float* weight;  // architecture weight; null: 1
  float* alpha_grad;    // null: not wanted
  float* coefficients;  // [3][C]; null: not wanted
  ParamView gamma_grad, beta_grad;
};
inline constexpr int kUnitRows = 4;
struct ProductUnit {  // rows that share one gradient, and for pools and skips one state
  View g;
  int first, rows;
  int stride;
  bool images;  // rows are images; else pools and skips of one state
  int block, runs;
  float* partial;  // [runs][1 + rows][C]
  unsigned* counters;
};
inline constexpr int kMaxProductRows = 128, kMaxProductUnits = 96;
struct ProductArgs {
  ProductRow row[kMaxProductRows];
  ProductUnit unit[kMaxProductUnits];
  int units, N;
  bool batch_stats;
  float eps;
};

struct BackwardConv {
  Conv2d conv;
  View g;                     // gradient behind the BatchNorm
  View y;                     // data null: the coefficients b and c are 0
  const float* coefficients;  // [3][O]; null: dL/dy = g
  float* weight_partial;      // [splits][O*I*taps, then I*kernel*kernel]; null: no weight gradients
  int splits, block;          // first block of its weight gradients
};

struct PoolGrad {
  View g;
  const float *average, *maximum;  // coefficients [3][C]; null: none
};
struct SkipGrad {
  View g;
  const float* weight;
};

// The gradient of one input image: a state, or the y of a first convolution.
struct InputGrad {
  View x;
  Input mode;
  NormView norm;
  View out, extra;  // extra: added; data null: none
  int first_conv, convs, first_pool, pools, first_skip, skips;
  int pool_stride;
  int block, runs, run_tiles;
  // For a BatchNorm in front (mode kNormRelu, or kPlain with statistics): its sums, and what follows from them.
  float* partial;  // [runs][2][C] sum gz, sum gz*x; null: none
  float* coefficients;
  ParamView gamma_grad, beta_grad;
  unsigned* counters;
};
inline constexpr int kMaxBackwardConvs = 64, kMaxInputGrads = 32, kMaxPoolGrads = 48, kMaxSkipGrads = 48;
struct BackwardArgs {
  BackwardConv conv[kMaxBackwardConvs];
  InputGrad input[kMaxInputGrads];
  PoolGrad pool[kMaxPoolGrads];
  SkipGrad skip[kMaxSkipGrads];
  int convs, inputs, N;
  int input_blocks;  // the blocks behind them compute weight gradients
  bool batch_stats;
  float eps;
  int region_elements, kernel_elements, tile_elements, norm_elements, coefficient_elements;  // shared memory, floats
};

// Adds up weight gradients: out[i] = sum over splits of partial[split*stride + i].
struct ReduceUnit {
  const float* partial;
  int64_t stride;
  int splits, count, block;
  ParamView out;
};
inline constexpr int kMaxReduceUnits = 512;
struct ReduceArgs {
  ReduceUnit unit[kMaxReduceUnits];
  int units;
};

struct RunningUnit {
  ParamView mean, variance;
  int64_t* batches;
};
inline constexpr int kMaxRunningUnits = 512;
struct RunningArgs {
  RunningUnit unit[kMaxRunningUnits];
  const float* stats;  // [units][2][C]
  int units, C;
  float momentum, unbiased;
};

// PC-DARTS' channel shuffle: `whole` [pixels][M + P], and its parts, with their elements between pixels.
struct ShuffleArgs {
  void *whole, *mixed, *passed;
  int64_t pixels, mixed_ld, passed_ld;
  int M, P, groups;
};

static_assert(sizeof(ForwardArgs) <= kMaxArgBytes && sizeof(PoolArgs) <= kMaxArgBytes &&
              sizeof(NodeArgs) <= kMaxArgBytes && sizeof(ProductArgs) <= kMaxArgBytes &&
              sizeof(BackwardArgs) <= kMaxArgBytes && sizeof(ReduceArgs) <= kMaxArgBytes &&
              sizeof(RunningArgs) <= kMaxArgBytes);

}  // namespace nasfast::mixed_op
