// Backward on CUDA: the stages in reverse.
//
//   sums     sum g and sum g*(y - mean) behind every normalisation, g masked by its activation
//   inputs   dy = a*g + b*(y - mean) + c, written once, then the gradient of what the unit read
//   weights  from dy and what was read, all groups of a unit together
//   params   at the end, every gradient of a parameter from its parts, in a fixed order
//
// Each is one launch per kind of work and stage, whatever the number of groups. A gradient that several summands
// receive is passed on without a copy.
#pragma once

#include "executor_cuda.h"

namespace nasfast::supernet {

class DeviceBackward : private DeviceExecutor {
 public:
  DeviceBackward(const DeviceCall& device, const Call& call, const at::Tensor& grad_out, const at::Tensor& kept,
                 const at::Tensor& stats, const Wanted& wanted);
  Grads run();

 private:
  // A buffer that may be the gradient of several values.
  struct Buffer {
    float* p;
    int64_t elements;
    int owners;
  };
  // Where the gradient of a value goes: its buffer, and whether something is there to add to.
  struct Target {
    int buffer = -1;
    bool add = false;
  };
  using Steps = std::vector<const Step*>;

  int own(int64_t elements);
  void release(int buffer);
  bool wants(int v) const;
  bool wants_param(int64_t p) const { return p >= 0 && wanted_.params[p]; }
  Target target(int v);
  void drop(int v);

  void prepare_norms();
  void start();
  void stage(const Stage& st);
  void no_grads(const Steps& units);
  void images();
  void sums(const Steps& steps);
  void concats(const Steps& steps);
  void pass(LayerTask task, const Target& to);
  void flush_passes();

  void norms(const Steps& units, const Stage& st);
  void norm_grads(const Steps& units);
  void input_grads(const Steps& units);
  void input_grad(const Step& s, const Target& to);

  struct WeightJob;
  void weight_grads(const Steps& units);
  void weight_job(const WeightJob& job);
  void add_part(int64_t param, PartTask part);
  void params();

  int& dy(const Step& s) { return dy_[&s - tape_.steps.data()]; }
  float* memory(int buffer) const { return buffer < 0 ? nullptr : buffers_[buffer].p; }

  const at::Tensor& grad_out_;
  const Wanted& wanted_;
  Grads grads_;
  std::vector<int> grad_;  // buffer of every value's gradient; -1: none
  std::vector<int> dy_;    // buffer of every step
  std::vector<Buffer> buffers_;
  std::vector<float*> coefficients_;  // by norm: a, b, c, then the gradients of gamma and beta
  at::Tensor coefficients_storage_;
  std::vector<std::vector<PartTask>> parts_;  // by parameter
  LayerLists lists_;
  TaskList<LayerTask> passes_;
  std::vector<int> passed_;  // buffers that the launch of `passes_` writes
  TaskList<HeadTask> heads_;
  int most_channels_ = 0;
  TaskList<WeightTask> conv_weights_[3], lanes_weights_[3], head_weights_;
};

}  // namespace nasfast::supernet
