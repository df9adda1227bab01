// Merges the children that rows of choices wire from one template.
//
// Rows come in lexicographic order, so that neighbours share their first entries, and what follows the first decision
// that differs is merged entry by entry. The tail of the template (see template.h) follows nothing new: children that
// come to it by the same nodes share all of it, and what others make of it is copied from the cells before, without a
// look for equal nodes, of which there can be none. Every child is finished before the next, so that values die early.
#pragma once

#include "copies.h"

namespace nasfast::child_eval {

// The node of an entry of the child that `row` chooses, after those that it reads: values[base + entry].
int32_t merge_entry(Merger& merger, const Template& space, int32_t entry, const int64_t* row,
                    const std::vector<int32_t>& values, int32_t base, std::vector<int32_t>& scratch);

class RowMerger {
 public:
  RowMerger(Merger& merger, const Template& space);

  // Rows [count][D], all within the space; writes the node of each child.
  void merge(const int64_t* rows, int64_t count, int32_t* outputs);

 private:
  void find_changes();
  int32_t child(const int64_t* row, int64_t first_change);
  int32_t tail(const int64_t* row);
  int32_t walk(const Segment& segment, const int64_t* row, int32_t x);
  // Whether the segment's recipe is known for this child and can be copied.
  bool has_recipe(const Segment& segment);

  Merger& merger_;
  const Template& space_;
  const Segments segments_;
  int32_t head_entries_;                       // before the tail
  std::vector<std::vector<int32_t>> changed_;  // of them: to be merged again when decision d is the first to change
  std::vector<int32_t> slot_of_;               // by operation
  std::vector<Recipe> recipes_;                // by model
  std::vector<uint8_t> taken_;                 // by model without decisions: its recipe is there
  std::vector<uint8_t> has_decisions_;         // by model

  std::vector<int32_t> values_;  // by entry, of the child at hand
  // Children by the nodes of the segments before the tail: open addressing, at most half full.
  std::vector<int32_t> table_;       // -1: free
  std::vector<int32_t> signatures_;  // of each child in the table
  std::vector<int32_t> results_;
  std::vector<uint8_t> passed_;  // by node: some child comes to the tail by it
  std::vector<int32_t> scratch_;
};

}  // namespace nasfast::child_eval
