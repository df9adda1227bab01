// Batched evaluation of child networks of one supernet, as Python sees it.
#pragma once

#include <ATen/ATen.h>

#include <map>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "primitives.h"

namespace nasfast::child_eval {

// A merged population. All tables are int64; see primitives.h and planner.h for their fields.
class Population {
 public:
  // entries [T, 4]: kind, decision (-1: none), number of inputs, number of operations; inputs and operations: those of
  // all entries one after the other; sizes [D]: values of each decision; rows [K, D].
  static std::shared_ptr<Population> from_rows(const at::Tensor& primitives, const at::Tensor& macros,
                                               int64_t in_channels, const at::Tensor& entries, const at::Tensor& inputs,
                                               const at::Tensor& operations, const at::Tensor& sizes,
                                               const at::Tensor& rows);
  // The same without decisions; the entries of child k are [starts[k], starts[k + 1]).
  static std::shared_ptr<Population> from_graphs(const at::Tensor& primitives, const at::Tensor& macros,
                                                 int64_t in_channels, const at::Tensor& entries,
                                                 const at::Tensor& inputs, const at::Tensor& operations,
                                                 const at::Tensor& starts);

  // asked, executed (operations), children, distinct (children), nodes.
  std::map<std::string, int64_t> counts() const;
  // Which of the distinct children each child is, int64 [K].
  at::Tensor index() const;

  // Logits [distinct children, N, classes], and what it took. `memory_bound` in bytes for values and scratch.
  std::tuple<at::Tensor, std::map<std::string, int64_t>> evaluate(const at::Tensor& images, at::TensorList tensors,
                                                                  const std::vector<double>& eps,
                                                                  const std::optional<at::Tensor>& calibration,
                                                                  int64_t memory_bound) const;

 private:
  Population(std::vector<Primitive> primitives, std::vector<Macro> macros, int64_t in_channels)
      : primitives_(std::move(primitives)), planner_(std::move(macros), in_channels), in_channels_(in_channels) {}
  void finish();
  std::vector<uint8_t> primitives_used() const;

  std::vector<Primitive> primitives_;
  Planner planner_;
  int64_t in_channels_, classes_ = 0;
  std::vector<uint8_t> live_;
  std::vector<int32_t> place_;  // by node: which distinct child it is the output of, -1: of none
  std::vector<int32_t> index_;  // by child
  int64_t distinct_ = 0;
};

}  // namespace nasfast::child_eval
