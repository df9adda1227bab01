// Which work the children of a population share: the merged plan of their graphs, see merger.h.
#pragma once

#include <cstdint>
#include <memory>
#include <vector>

#include "merger.h"
#include "rows.h"
#include "template.h"

namespace nasfast::child_eval {

class Planner {
 public:
  Planner(std::vector<Macro> macros, int64_t in_channels) : merger_(std::move(macros), in_channels) {}

  // Rows [K][D], once. Throws std::invalid_argument for a choice out of range.
  void add_rows(Template space, const int64_t* rows, int64_t count);
  // Children with graphs of their own: entries without decisions, one after the other; child k has
  // [starts[k], starts[k + 1]), whose inputs count from its first entry.
  void add_graphs(const Template& graphs, const std::vector<int64_t>& starts);

  // In the order in which the children were given: a number that equal children have in common, and the operation of
  // their output, -1: none.
  const std::vector<int32_t>& outputs() const { return merger_.plan().outputs; }
  int32_t operation_of(int32_t output) const {
    return rows_ ? rows_->operation_of(output) : merger_.node(output).macro;
  }
  const std::vector<Macro>& macros() const { return merger_.plan().macros; }

  // All nodes; the numbers of outputs are theirs from now on. Nothing can be added any more.
  const Plan& plan();
  int64_t operations_asked() const { return asked_; }

 private:
  void count_asked(const Template& space, const int64_t* rows, int64_t count);

  Merger merger_;
  Template space_;
  std::unique_ptr<RowMerger> rows_;  // may have nodes to write
  int64_t asked_ = 0;
};

}  // namespace nasfast::child_eval
