// What the CUDA kernels of the supernet's training step are told: plain structures in tables that one upload brings to
// the device. A launch computes all tasks of its table, however many groups of images there are; task k has the blocks
// from task[k].block on.
//
// A value is what one group of images gives, float32 NHWC with `ld` elements between pixels: its channels rounded up to
// whole packs of four, the rest zero, as in packed weights, scales and gradients. It may be stored before its
// normalisation: whoever reads it makes act(scale*x + shift) of it on the way (Source).
//
// Rows of a normalisation: scale [ld], shift [ld], mean [ld].
#pragma once

#include "../core/source.h"

namespace nasfast::supernet {

inline constexpr int kPack = 4;             // channels of one access
inline constexpr int kReduceChannels = 32;  // of a block that reduces over pixels
inline constexpr int kReduceThreads = 128;
inline constexpr int kMapThreads = 256, kMapItems = 4 * kMapThreads;

constexpr int leading(int64_t channels) { return nasfast::leading<float>(channels); }

// How pixels of a result meet pixels of what is read.
struct Window {
  int source_h, source_w, source_ld;
  int result_h, result_w, result_ld;
  int kernel, stride, dilation, pad;
};

enum class MapKind : int {
  kSum,      // of terms, none: zero
  kConcat,   // of terms
  kAverage,  // pools; one of a single pixel picks it
  kMaximum,
  // Gradients: `x` is the gradient of the result, `gate` the value that was read.
  kPassGrad,
  kPartGrad,  // of one concatenated value: channels from `first` on
  kAverageGrad,
  kMaximumGrad,
  kNormGrad,  // a*g + b*(y - mean) + c with `coefficients` a, b, c [ld] each and `gate` y; null: g; masked by y's act
};

// conv, depthwise: out (+)= sum over taps of x * weights, or its gradient with respect to what was read. map: MapKind.
struct LayerTask {
  Source x, gate;
  const float* weights;       // conv: [taps*source_ld][result_ld]; depthwise: [taps][ld]
  const float* coefficients;  // of kNormGrad
  float* out;
  Window window;
  int images, channels;  // channels of the result
  int then;              // activation between the value that was read and the unit, which a gradient passes
  int add;               // to what is in `out`
  MapKind kind;
  int first, terms;  // of the table of terms
  int centred;       // kNormGrad: b and c count
  int block;
  int padding;
};

// Of a value: moments (mean, sum of squared deviations), or sum g and sum g*(y - mean) with g masked by y's activation.
struct ReduceTask {
  const float *y, *g, *rows;
  double* partial;  // [runs][2][ld]
  int pixels, ld, run_pixels, act;
  int block, padding;
};

// What a normalisation sums: the parts of one value.
struct Partial {
  const double* sums;
  int runs, run_pixels, pixels, padding;
};

enum class NormKind : int { kBatch, kStatistics, kRunning, kBias };

struct NormTask {
  const float *gamma, *beta;  // kBias: beta is the bias
  const float *running_mean, *running_var;
  int64_t gamma_stride, beta_stride, mean_stride, var_stride;
  double* stats;          // mean [channels], biased variance [channels]: kBatch writes, kStatistics reads
  float* rows;            // written forward
  float* coefficients;    // written backward: a, b, c
  float *dgamma, *dbeta;  // [ld], written backward
  double eps, count;
  int first, members;  // of the table of partials
  int channels, ld;
  NormKind kind;
  int block;
};

struct HeadTask {
  Source x;
  const float* weights;  // [classes][ld]
  const float* bias;
  const float* g;  // [images][classes]
  float* pooled;   // [images][ld]
  float* out;      // logits [images][classes], or the gradient of what was read
  int64_t bias_stride;
  int images, pixels, ld, classes;
  int add, block;
};

// One group's share in the gradient of a weight.
struct Member {
  Source x;
  const float* dy;
};

// conv: [chunks][taps*source_ld][result_ld] from all pixels of all members, cut into chunks. depthwise:
// [chunks][taps][ld]. head: [classes][ld], then [classes] of the bias; x is what was pooled.
struct WeightTask {
  float* out;
  Window window;
  int images, first, members;
  int chunks, chunk_pixels;
  int block;
};

enum class PackKind : int { kDense, kTransposed, kDepthwise, kHead };

// The part of a parameter that a unit uses, [out][in][row][column], as kernels take it.
struct PackTask {
  const float* source;  // its first tap
  float* out;
  int64_t stride[4];
  int c_in, c_out, kernel, in_ld, out_ld;
  PackKind kind;
  int block, padding;
};

enum class PartKind : int { kDense, kDepthwise, kHead, kVector };

// One addend of the gradient of a parameter.
struct PartTask {
  const float* packed;
  int64_t copy_stride;
  int copies;
  int c_in, c_out, kernel, in_ld, out_ld;
  PartKind kind;
  int padding;
};

struct ParamTask {
  float* grad;
  int64_t stride[4];
  int size[4];  // a vector: [size, 1, 1, 1]
  int first, parts;
  int block, padding;
};

struct ImagesTask {
  Source x;
  float* out;
  int first, block;
};

// Strided [N, C, H, W].
struct ImagesArgs {
  float* images;
  int64_t stride[4];
  int count, C, H, W, ld;  // count: images of a group
};

struct RunningTask {
  float *mean, *var;
  int64_t mean_stride, var_stride;
  int64_t* batches;
  double momentum;  // below 0: an average of all batches
  int first, uses;  // of the table of statistics
};

struct BatchStatistics {
  const double* stats;
  double unbiased;  // factor of the variance
  int channels, padding;
};

template <class Task>
struct Table {
  const Task* tasks;
  int count;
};

}  // namespace nasfast::supernet
