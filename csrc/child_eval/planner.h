// Which work the children of a population share: hash-consing of their graphs.
//
// A value is a node: an operation of the supernet (with its weights) applied to a node, a sum or a concatenation.
// Equal nodes are one. Identities are their input, zeros drop out of sums, sums of sums are one sum, and the order of
// summands does not count; so equal functions of the shared weights become one node and are computed once.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

namespace nasfast::child_eval {

enum class MacroKind : int64_t { kOperation = 0, kIdentity = 1, kZero = 2 };

// An operation of the supernet, as the search space names it: a few primitives that the executor knows.
struct Macro {
  static constexpr int kFields = 8;
  MacroKind kind;
  int64_t first_primitive, primitives;
  int64_t c_in, c_out;
  int64_t halvings;  // of the image, each rounding up
  bool keeps_zero;   // gives zero for zero
  int64_t place;     // which of the supernet's operations it is: the same number in every population
};

enum class NodeKind : uint8_t { kInput, kOperation, kSum, kConcat, kZero };

struct Node {
  NodeKind kind;
  uint8_t halvings;
  int32_t channels;
  int32_t macro;  // -1: none
  int32_t first_input, inputs;
  uint64_t hash;  // of the function: the same in every population
};

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

  const std::vector<Node>& nodes() const { return nodes_; }
  const int32_t* inputs(const Node& n) const { return inputs_.data() + n.first_input; }
  const std::vector<Macro>& macros() const { return macros_; }
  const std::vector<int32_t>& outputs() const { return outputs_; }  // node of each child, in the order they were given
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

  std::vector<Macro> macros_;
  std::vector<Node> nodes_;
  std::vector<int32_t> inputs_;
  struct Place {
    int32_t node = -1;  // -1: free
    uint32_t tag = 0;   // upper half of its hash: most others are told apart without a look at the node
  };
  std::vector<Place> table_;  // open addressing
  std::vector<int32_t> outputs_;
  std::vector<int32_t> given_, terms_;  // scratch
  int64_t asked_ = 0;
};

}  // namespace nasfast::child_eval
