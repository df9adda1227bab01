// Hash-consing of the graphs of a population: equal nodes are one.
//
// A value is a node: an operation of the supernet (with its weights) applied to a node, a sum or a concatenation.
// Identities are their input, zeros drop out of sums, sums of sums are one sum, and the order of summands does not
// count; so equal functions of the shared weights become one node and are computed once.
//
// One sum stays whole within another: that through which all of the other's value passes, as the input of a cell that
// is added to what the cell makes of it. It is computed anyway, and taken apart it would make the sums of a deep
// network as long as what all cells before have added, doubled by every cell that adds its input twice.
#pragma once

#include <cstdint>
#include <string>
#include <utility>
#include <vector>

#include "plan.h"

namespace nasfast::child_eval {

class Merger {
 public:
  Merger(std::vector<Macro> macros, int64_t in_channels);
  ~Merger();
  Merger(const Merger&) = delete;
  Merger& operator=(const Merger&) = delete;

  static constexpr int32_t kImage = 0;  // the node of the images

  // The node of what they name: one that is there, or a new one. Throw std::invalid_argument where values do not fit
  // together.
  int32_t operation(int32_t macro, int32_t x);
  int32_t sum(const int32_t* xs, int32_t count);
  int32_t concat(const int32_t* xs, int32_t count);
  int32_t zero(int32_t channels, int halvings);

  // Nodes that are known to be new, to be written by the caller: their places, and those of their inputs. They are
  // never looked for: nothing else must make the same of what they read.
  struct Block {
    Node* nodes;
    int32_t* inputs;
    int32_t first_node, first_input;
  };
  Block new_block(int32_t nodes, int32_t inputs);

  // The end of merging: these are the nodes now.
  void replace(decltype(Plan::nodes) nodes, decltype(Plan::inputs) inputs);

  [[noreturn]] static void fail_operation(int32_t macro, int64_t channels, const Node& source);
  [[noreturn]] static void fail_sum(const Node& a, const Node& b);

  void reserve(size_t nodes);
  // Room to meet so many nodes without growing; before any is met.
  void expect(size_t nodes);
  const Plan& plan() const { return plan_; }
  std::vector<int32_t>& outputs() { return plan_.outputs; }
  const Node& node(int32_t id) const { return plan_.nodes[id]; }
  int32_t size() const { return static_cast<int32_t>(plan_.nodes.size()); }

 private:
  struct Place {
    int32_t node = -1;  // -1: free
    uint32_t hash = 0;
  };
  struct Spare;

  static uint32_t hash_of(const Node& node, const int32_t* xs);
  int32_t common_dominator(int32_t a, int32_t b) const;
  bool precedes(int32_t a, int32_t b) const;
  void take_apart(int32_t sum, int32_t whole);
  int32_t intern(const Node& node, const int32_t* xs);
  void enter(int32_t id, uint32_t hash);
  void grow();
  void rehash(size_t places);

  Plan plan_;
  std::vector<Place> table_;  // open addressing, at most half full
  size_t entered_ = 0;
  std::vector<int32_t> terms_;  // scratch
};

}  // namespace nasfast::child_eval
