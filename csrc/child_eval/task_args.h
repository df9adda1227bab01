// What the CUDA kernels of batched child evaluation are told: plain structures, passed by value as kernel parameters.
//
// Values as in core/source.h.
//
// One launch computes many tasks: values of many nodes of the plan, of one or several shapes. Task k has the blocks
// from task[k].block on. Letters: N images, H/W input size, h/w output size, S storage type.
#pragma once

#include "../core/source.h"

#if defined(NASFAST_SIMT) || !defined(__CUDACC__)
#define NASFAST_TASK_PARAMETER
#else
#define NASFAST_TASK_PARAMETER __grid_constant__  // a table indexed at run time stays in constant memory
#endif

namespace nasfast::child_eval {

struct TaskShape {
  int H, W, in_ld, h, w, out_ld;
  int kernel, stride, dilation, pad;
  int channels;  // of the output
  int runs;      // parts into which the output's pixels are divided, a function of the shape alone
};

// Mean and variance of every channel of a result, and what BatchNorm makes of them.
struct Statistics {
  float* partial;      // [runs][4][out_ld]
  unsigned* counters;  // one per group of channels; null: no statistics
  const float* norm;   // gamma [out_ld], beta [out_ld]
  float* used;         // scale, shift of the batch itself: biased variance
  float* kept;         // of what is evaluated later: unbiased variance
  float eps;
};

// conv: out = act(scale * conv(x) + shift) + residual. depthwise: the same with one filter per channel; without weights
// a normalisation or activation alone. `out` null: only the statistics are wanted.
struct ConvTask {
  Source x;
  const void* weights;   // conv: [taps*in_ld][out_ld] float, [out_ld][taps*in_ld] 16-bit; depthwise: [taps][ld] float
  const float* after;    // scale, shift; null: none
  const void* residual;  // of out's shape; null: none
  void* out;
  Statistics statistics;
  int block;
  int16_t shape, act;
};

enum class MapKind : int16_t { kSum = 0, kConcat = 1, kAverage = 2, kMaximum = 3 };

// Sum or concatenation of terms (no terms: zero), or a pool of one.
struct MapTask {
  void* out;
  int first_term, terms;
  int block;
  MapKind kind;
  int16_t shape;
};

// logits[n] = weights * mean over the image of x[n] + bias
struct HeadTask {
  Source x;
  const float* weights;  // [classes][in_ld]
  const float* bias;     // [classes]
  float* out;            // [N][classes]
  int block;
  int16_t shape;
};

inline constexpr int kMaxShapes = 48;
inline constexpr int kConvTasks = 256, kMapTasks = 256, kMapTerms = 768, kHeadTasks = 400;

struct ConvArgs {
  int N, tasks;
  TaskShape shape[kMaxShapes];
  ConvTask task[kConvTasks];
};

struct MapArgs {
  int N, tasks;
  TaskShape shape[kMaxShapes];
  MapTask task[kMapTasks];
  Source term[kMapTerms];
};

struct HeadArgs {
  int N, tasks, classes;
  TaskShape shape[kMaxShapes];
  HeadTask task[kHeadTasks];
};

// Images of any layout to a value.
struct ImagesArgs {
  const void* images;
  int64_t stride[4];  // image, channel, row, column
  void* out;
  int N, C, H, W, ld;
};

enum class PackKind : int { kDense, kDepthwise, kRows, kNorm, kBias };

// kDense: [O, I, taps] to ConvTask::weights. kDepthwise: [O, 1, taps] to [taps][out_ld]. kRows: [O, I] to [O][in_ld].
// kNorm: gamma, beta, mean, variance to scale, shift, gamma, beta. kBias: to scale 1 and shift.
struct PackTask {
  const float* source;
  const float* more[3];
  void* out;
  int O, I, taps, in_ld, out_ld;
  float eps;
  int block;
  PackKind kind;
};

inline constexpr int kPackTasks = 384;

struct PackArgs {
  int tasks;
  PackTask task[kPackTasks];
};

inline constexpr size_t kMaxParameterBytes = 32764;  // sm_70 and later
static_assert(sizeof(ConvArgs) <= kMaxParameterBytes && sizeof(MapArgs) <= kMaxParameterBytes &&
              sizeof(HeadArgs) <= kMaxParameterBytes && sizeof(PackArgs) <= kMaxParameterBytes);

inline constexpr int kConvPixels = 64;     // of a block of the convolution
inline constexpr int kLanesChannels = 64;  // of a block of the depthwise convolution
inline constexpr int kMapThreads = 256, kMapItems = 4 * kMapThreads;
inline constexpr int kPackThreads = 256, kPackItems = 8 * kPackThreads;

}  // namespace nasfast::child_eval
