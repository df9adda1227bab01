// A population of child networks of one supernet and what merging makes of it, as Python sees it.
#pragma once

#include "../aten/tensor.h"

#include <map>
#include <memory>
#include <string>
#include <vector>

#include "planner.h"
#include "primitives.h"

namespace nasfast::child_eval {

// A merged population. All tables are int64; see primitives.h, plan.h and template.h for their fields.
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
  std::map<std::string, int64_t> counts();
  // Which of the distinct children each child is, int64 [K].
  at::Tensor index() const;

  // What the op takes of the merged plan: nodes and inputs as in tables.h, the node of each distinct child, and the
  // number of classes.
  std::tuple<at::Tensor, at::Tensor, at::Tensor, int64_t> tables();

 private:
  Population(std::vector<Primitive> primitives, std::vector<Macro> macros, int64_t in_channels)
      : primitives_(std::move(primitives)), planner_(std::move(macros), in_channels) {}
  void finish();
  const Plan& plan();

  std::vector<Primitive> primitives_;
  Planner planner_;
  int64_t classes_ = 0;
  std::vector<int32_t> outputs_;  // of each distinct child: as the planner numbers it, its node once there is a plan
  std::vector<int32_t> index_;    // which of them each child is
};

}  // namespace nasfast::child_eval
