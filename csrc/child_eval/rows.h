// Merges the children that rows of choices wire from one template.
//
// Rows come in lexicographic order, so that neighbours share their first entries, and what follows the first decision
// that differs is merged entry by entry. The tail of the template (see template.h) follows nothing new: children that
// come to it by the same nodes share all of it, and what others make of it is copied from the cells before, without a
// look for equal nodes, of which there can be none. Every child is finished before the next, so that values die early.
//
// What is to be copied into a tail follows from the head, so its nodes are reserved at once and written by `write_all`:
// who only wants to know what there is to compute does without.
#pragma once

#include "copies.h"

namespace nasfast::child_eval {

// The node of an entry of the child that `row` chooses, after those that it reads: values[base + entry].
int32_t merge_entry(Merger& merger, const Template& space, int32_t entry, const int64_t* row,
                    const std::vector<int32_t>& values, int32_t base, std::vector<int32_t>& scratch);

class RowMerger {
 public:
  RowMerger(Merger& merger, const Template& space);

  // Rows [count][D], all within the space; writes the node of each child, whose channels and operation are there at
  // once, as all of what no tail holds.
  void merge(const int64_t* rows, int64_t count, int32_t* outputs);
  void write_all();

 private:
  void find_changes();
  int32_t child(const int64_t* row, int64_t first_change);
  int32_t tail(const int64_t* row);
  // Reserves a tail over node x, which nothing has read: the node of its output; -1 where it has to be made at once.
  int32_t reserve_tail(int32_t x);
  int32_t walk(const Segment& segment, const int64_t* row, int32_t x);
  // Whether the segment's recipe is known for this child and can be copied.
  bool has_recipe(const Segment& segment);

  struct Reserved {
    int32_t x, first_node, first_input;
  };
  struct Model {
    int32_t segment;  // the first in the tail of this model
    int32_t count;    // how many there are
    bool in_head;
  };

  Merger& merger_;
  const Template& space_;
  const Segments segments_;
  int32_t head_entries_;                       // before the tail
  std::vector<std::vector<int32_t>> changed_;  // of them: to be merged again when decision d is the first to change
  std::vector<int32_t> slot_of_;               // by operation
  std::vector<Recipe> recipes_;                // by model
  std::vector<uint8_t> taken_;                 // by model without decisions: its recipe is there
  std::vector<uint8_t> has_decisions_;         // by model

  std::vector<Model> models_;  // of the segments of the tail

  std::vector<Reserved> reserved_;      // tails that are not written yet
  std::vector<int32_t> reserved_from_;  // of each, by model in the head: the nodes that its recipe leads from and to

  std::vector<int32_t> values_;  // by entry, of the child at hand
  // Children by the nodes of the segments before the tail: open addressing, at most half full.
  std::vector<int32_t> table_;       // -1: free
  std::vector<int32_t> signatures_;  // of each child in the table
  std::vector<int32_t> results_;
  std::vector<uint8_t> passed_;  // by node: some child comes to the tail by it
  std::vector<int32_t> scratch_;
};

}  // namespace nasfast::child_eval
