// One call of the supernet ops, as the CPU and the CUDA side take it.
#pragma once

#include "../aten/tensor.h"

#include <tuple>

#include "tape.h"

namespace nasfast::supernet {

// Tensors are checked.
struct Call {
  const Program& program;
  const Tape& tape;
  at::Tensor images;
  std::vector<at::Tensor> params, running;  // running: mean and variance of every norm, or empty
  std::vector<double> eps;                  // of every norm
};

struct Wanted {
  bool images;
  std::vector<uint8_t> params;
};

struct Grads {
  at::Tensor images;               // undefined where not wanted
  std::vector<at::Tensor> params;  // undefined where not wanted
};

using ForwardTensors = std::tuple<at::Tensor, at::Tensor, at::Tensor>;  // output, what is kept, statistics
using BackwardTensors = std::tuple<at::Tensor, std::vector<at::Tensor>>;

inline Statistics statistics_of(at::TensorList running, bool per_operation) {
  return !running.empty() ? Statistics::kRunning : per_operation ? Statistics::kOperation : Statistics::kGroup;
}

// `sizes` of the images, which are not empty.
Tape make_tape(const Program& program, const at::Tensor& index, at::IntArrayRef sizes, Statistics statistics,
               bool keep);

// What a batch of no images gives.
ForwardTensors empty_forward(const Program& program, const at::Tensor& images);
Grads empty_backward(const at::Tensor& images, at::TensorList params, const Wanted& wanted);

Wanted make_wanted(bool images, const c10::List<bool>& params, at::TensorList given);
// Empty tensors where nothing was wanted.
BackwardTensors pack_grads(Grads grads, const at::Tensor& images);

// Throws where the statistics of a batch are not those of this tape.
void check_stats(const Tape& tape, const at::Tensor& stats);

}  // namespace nasfast::supernet
