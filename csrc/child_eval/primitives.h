// What an operation of a supernet is made of, and its weights as the kernels take them. No torch header here.
#pragma once

#include <vector>

#include "child_eval_kernels.h"
#include "plan.h"

namespace nasfast::child_eval {

enum class PrimitiveKind : int64_t {
  kConv = 0,              // act_before, dense convolution, norm or bias, act_after
  kDepthwise = 1,         // the same with one filter per channel
  kInvertedResidual = 2,  // three convolutions with norms, relu6 after the first two; the first only with kExpand
  kAveragePool = 3,
  kMaximumPool = 4,
  kNorm = 5,  // act_before, normalisation, act_after
  kHead = 6,  // mean over the image, linear layer
  kSum = 7,   // of two values
  kJoin = 9,  // of the channels of two values, as in csrc/supernet
};

// kSecondPixel: a 1x1 convolution of stride 2 reads every second pixel from the second on, in both directions, as the
// second half of a factorized reduction does; sides must be even.
enum PrimitiveFlag : int64_t { kHasNorm = 1, kHasBias = 2, kResidual = 4, kExpand = 8, kSecondPixel = 16 };

// Fields as they come from Python, in this order.
struct Primitive {
  static constexpr int kFields = 13;
  PrimitiveKind kind;
  int64_t kernel, stride, dilation;
  Act act_before, act_after;
  int64_t c_in, c_hidden, c_out;
  int64_t flags;
  int64_t first_tensor;
  int64_t input[2];  // results within the operation; -1: what the operation reads

  bool has(PrimitiveFlag flag) const { return (flags & flag) != 0; }
  bool is_conv() const { return kind == PrimitiveKind::kConv || kind == PrimitiveKind::kDepthwise; }
  bool reads_two() const { return kind == PrimitiveKind::kSum || kind == PrimitiveKind::kJoin; }
  bool is_pool() const { return kind == PrimitiveKind::kAveragePool || kind == PrimitiveKind::kMaximumPool; }
  // Channels of each normalisation, in order.
  std::vector<int64_t> norms() const;
};

// Shapes of a primitive's tensors, in order; then follow gamma, beta, mean and variance of each norm.
struct ExpectedTensors {
  std::vector<std::vector<int64_t>> weights;
  int64_t bias = 0;  // its size; 0: none
};
ExpectedTensors expected_tensors(const Primitive& p);
bool is_depthwise_weight(const Primitive& p, size_t number);

// One normalisation: what its running statistics make of it, and what is needed to make it of others.
struct Norm {
  int64_t channels = 0;
  float *scale = nullptr, *shift = nullptr;  // padded; of the running statistics
  const float *gamma = nullptr, *beta = nullptr;
  double eps = 0;
};

struct PackedPrimitive {
  float* weights[3] = {nullptr, nullptr, nullptr};
  std::vector<Norm> norms;
  const float* bias = nullptr;  // of a convolution or the head, padded
  const float* ones = nullptr;  // scale of a bias
};

using PackedWeights = std::vector<PackedPrimitive>;  // by primitive

}  // namespace nasfast::child_eval
