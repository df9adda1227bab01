// From Python's tensors to packed weights.
#pragma once

#include "../aten/tensor.h"

#include "tables.h"

namespace nasfast::child_eval {

// Weights of the primitives in use, as the CPU kernels take them; they live as long as this.
class WeightBank {
 public:
  WeightBank(const std::vector<Primitive>& primitives, const std::vector<uint8_t>& used, at::TensorList tensors,
             at::ArrayRef<double> eps);
  const PackedWeights& packed() const { return packed_; }

 private:
  float* take(int64_t elements);
  PackedWeights packed_;
  std::vector<at::Tensor> storage_;
};

}  // namespace nasfast::child_eval
