// Which work the children of a population share: hash-consing of their graphs.
//
// A value is a node: an operation of the supernet (with its weights) applied to a node, a sum or a concatenation.
// Equal nodes are one. Identities are their input, zeros drop out of sums, sums of sums are one sum, and the order of
// summands does not count; so equal functions of the shared weights become one node and are computed once.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "plan.h"

namespace nasfast::child_eval {

// How all architectures of a space are wired: node by node, the operation of some chosen by a decision.
struct Template {
  struct Entry {
    NodeKind kind;
    int32_t decision;  // -1: none
    int32_t first_input, inputs;
    int32_t first_macro;  // macros[first_macro + choice]
  };
  std::vector<Entry> entries;  // the last one is the output
  std::vector<int32_t> inputs;
  std::vector<int32_t> macros;
  std::vector<int64_t> sizes;  // values of each decision
};

class Planner {
 public:
  Planner(std::vector<Macro> macros, int64_t in_channels);

  // Rows [K][D]. Throws std::invalid_argument for a choice out of range.
  void add_rows(const Template& space, const int64_t* rows, int64_t count);
  // Children with graphs of their own: entries without decisions, one after the other; child k has
  // [starts[k], starts[k + 1]), whose inputs count from its first entry.
  void add_graphs(const Template& graphs, const std::vector<int64_t>& starts);

  const Plan& plan() const { return plan_; }  // outputs in the order in which the children were given
  int64_t operations_asked() const { return asked_; }

 private:
  int32_t value(const Template& space, int32_t entry, const int64_t* row, const std::vector<int32_t>& values,
                int32_t base);
  int32_t operation(int32_t macro, int32_t x);
  int32_t sum(const int32_t* xs, int32_t count);
  int32_t concat(const int32_t* xs, int32_t count);
  int32_t zero(int32_t channels, uint8_t halvings);
  int32_t intern(const Node& node, const int32_t* xs);
  void grow();

  Plan plan_;
  struct Place {
    int32_t node = -1;  // -1: free
    uint32_t tag = 0;   // upper half of its hash: most others are told apart without a look at the node
  };
  std::vector<Place> table_;            // open addressing
  std::vector<int32_t> given_, terms_;  // scratch
  int64_t asked_ = 0;
};

}  // namespace nasfast::child_eval
