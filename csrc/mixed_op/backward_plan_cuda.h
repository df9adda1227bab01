// Plans the backward launches that the mixed op and relu_conv_bn share: products, convolution gradients, and the sum of
// weight gradients.
#pragma once

#include <memory>

#include "launch_plan_cuda.h"

namespace nasfast::mixed_op {

// The gradient of one input, and what it is made of. Without `input_wanted` only the weights' gradients are computed.
struct InputWork {
  InputGrad input{};
  bool input_wanted = true;
  std::vector<BackwardConv> convs;
  std::vector<PoolGrad> pools;
  std::vector<SkipGrad> skips;
};

// Gradients of a convolution's weights: the partial sums of a launch, and where their totals go.
class WeightSums {
 public:
  explicit WeightSums(const DeviceCall& call) : call_(call) {}
  // Partial sums for a convolution; sets its weight_partial and splits.
  void add(BackwardConv& conv, int64_t N, const ParamView& depthwise, const ParamView& product,
           const ParamView& product2);
  void reduce();  // one launch for all

 private:
  void add_unit(const float* partial, int64_t stride, int splits, int64_t count, const ParamView& out);

  const DeviceCall& call_;
  std::vector<at::Tensor> partials_;
  std::vector<ReduceUnit> units_;
};

// All works in as few launches as their arguments allow.
template <class S>
void run_backward_convs(const DeviceCall& call, Counters& counters, std::vector<InputWork> works, int64_t N,
                        bool batch_stats, bool weights, double eps);

// A gradient and the rows it is multiplied with: images, or pools and the skip of one state.
struct ProductWork {
  View g;
  bool images;
  int stride;
  std::vector<ProductRow> rows;
};
template <class S>
void run_products(const DeviceCall& call, Counters& counters, const std::vector<ProductWork>& works, int64_t N,
                  bool batch_stats, double eps);

}  // namespace nasfast::mixed_op
