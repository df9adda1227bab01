// What is to be computed: the nodes of a merged population. No torch header here.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
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
  bool constant;  // does not depend on the image
  int32_t channels;
  int32_t macro;  // -1: none
  int32_t first_input, inputs;
  int32_t dominator;  // the last node before it through which all ways to it lead; -1: none. Of merged plans only
};

// Grows without writing to what is added.
template <class T>
struct Unwritten : std::allocator<T> {
  template <class U>
  struct rebind {
    using other = Unwritten<U>;
  };
  template <class U>
  void construct(U* at) {
    ::new (static_cast<void*>(at)) U;
  }
  template <class U, class... Args>
  void construct(U* at, Args&&... args) {
    ::new (static_cast<void*>(at)) U(std::forward<Args>(args)...);
  }
};

struct Plan {
  std::vector<Macro> macros;
  std::vector<Node, Unwritten<Node>> nodes;         // each reads earlier ones
  std::vector<int32_t, Unwritten<int32_t>> inputs;  // of all nodes, one after the other
  std::vector<int32_t> outputs;                     // node of each child

  const int32_t* inputs_of(const Node& n) const { return inputs.data() + n.first_input; }
};

// Pixels of a side after so many halvings, each rounding up.
inline int halved(int64_t side, int halvings) {
  for (int i = 0; i < halvings; ++i) side = (side + 1) / 2;
  return static_cast<int>(side);
}

// Nodes that reach an output.
std::vector<uint8_t> live_nodes(const Plan& plan);

}  // namespace nasfast::child_eval
