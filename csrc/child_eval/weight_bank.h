// From Python's tables and tensors to primitives and packed weights.
#pragma once

#include <ATen/ATen.h>

#include "primitives.h"

namespace nasfast::child_eval {

// Parses and checks [P][kFields] and [M][Macro::kFields]. Throws c10::Error.
std::vector<Primitive> parse_primitives(const at::Tensor& table);
std::vector<Macro> parse_macros(const at::Tensor& table, const std::vector<Primitive>& primitives);

// Weights of the primitives in use. Tensors of a primitive: its weights in order, its bias, then gamma, beta, mean and
// variance of each norm; `eps` one for each norm of all primitives in order. The packed weights live as long as this.
class WeightBank {
 public:
  WeightBank(const std::vector<Primitive>& primitives, const std::vector<uint8_t>& used, at::TensorList tensors,
             const std::vector<double>& eps);
  const PackedWeights& packed() const { return packed_; }

 private:
  float* take(int64_t elements);
  PackedWeights packed_;
  std::vector<at::Tensor> storage_;
};

}  // namespace nasfast::child_eval
