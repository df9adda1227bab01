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

  // Outputs in the order in which the children were given, with their channels and operation; of other nodes those that
  // are copies (see rows.h) are not written.
  const Plan& outline() const { return merger_.plan(); }
  // The same, complete.
  const Plan& plan();
  std::vector<uint8_t> live() const { return merger_.live(); }
  int64_t operations_asked() const { return asked_; }

 private:
  void count_asked(const Template& space, const int64_t* rows, int64_t count);

  Merger merger_;
  Template space_;
  std::unique_ptr<RowMerger> rows_;  // has nodes to write
  int64_t asked_ = 0;
};

}  // namespace nasfast::child_eval
