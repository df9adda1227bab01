// A cell that stands in a network several times is merged once; the others are copies of it, with weights of their own.
#pragma once

#include "merger.h"
#include "template.h"

namespace nasfast::child_eval {

// The graph of one value over another, taken from a plan.
class Recipe {
 public:
  // Takes what leads from node x to node y of a segment that begins at `segment.first_macro`; `slot_of` is the place of
  // each operation in Template::macros. False, and no recipe, where it cannot be copied: y or x does not depend on the
  // image, a sum holds x beside what does not depend on it, or a concatenation.
  bool take(const Merger& merger, const Segment& segment, const std::vector<int32_t>& slot_of, int32_t x, int32_t y);
  bool is_of(int32_t x, int32_t y) const { return x_ == x && y_ == y; }
  bool good() const { return good_; }
  // It can be written into another plan: all of it depends on x.
  bool plain() const { return good_ && constants_ == 0; }
  int32_t nodes() const { return static_cast<int32_t>(nodes_.size()) - 1; }
  int32_t inputs() const { return block_inputs_; }
  int32_t last_slot() const { return last_slot_; }  // of the operation at the end; -1: it ends in none

  // The same over node x, which depends on the image and which nothing has read, with the operations that `macros`
  // holds in their slots: the node of the result.
  int32_t copy(Merger& merger, const int32_t* macros, int32_t x);
  // The same of a plain recipe, into a block of `nodes()` and `inputs()` of the nodes of another plan with the same
  // operations, where x is.
  int32_t write(const Merger& from, const int32_t* macros, int32_t x, const Node* nodes, const Merger::Block& block);

 private:
  struct Step {
    NodeKind kind;
    int32_t slot;          // of the operation
    int32_t halvings;      // of a zero, against x
    int32_t first, count;  // of reads_
    int32_t dominator;     // place in ids_; -1: none
  };

  bool find_nodes(const Merger& merger);
  int32_t slot(const Node& operation) const;
  void build(const Merger& merger);
  void add_step(const Merger& merger, const Node& n);
  void write_steps(const std::vector<Macro>& known, const int32_t* macros, const Node* nodes,
                   const Merger::Block& block);
  int32_t copy_constant(Merger& merger, const int32_t* macros, const Step& step, int32_t x);

  int32_t x_ = -1, y_ = -1, last_slot_ = -1;
  const Segment* segment_ = nullptr;
  const std::vector<int32_t>* slot_of_ = nullptr;
  bool good_ = false;
  int32_t constants_ = 0;       // the first steps do not depend on x: they are met as always
  int32_t block_inputs_ = 0;    // of the others
  std::vector<int32_t> nodes_;  // x and the steps, where they were taken from
  std::vector<Step> steps_;     // once it was copied
  std::vector<int32_t> reads_;  // places in ids_
  std::vector<int32_t> ids_;    // x and the steps, in the copy
  std::vector<int32_t> terms_;  // scratch
};

}  // namespace nasfast::child_eval
