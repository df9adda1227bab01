// Merges the children that rows of choices wire from one template.
//
// Rows come in lexicographic order, so that neighbours share their first entries, and what follows the first decision
// that differs is merged entry by entry. The tail of the template (see template.h) follows nothing new: children that
// come to it by the same nodes share all of it, and what others make of it is copied from the cells before, without a
// look for equal nodes, of which there can be none. Every child is finished before the next, so that values die early.
//
// Others cannot meet them there: as each operation stands at one place, a value that depends on the image tells by what
// nodes a child has come to it.
//
// What is to be copied into a tail follows from the head, so it is noted, and written by `write_all`, between what was
// merged before and after: who only wants to know which children are equal does without.
#pragma once

#include "copies.h"

namespace nasfast::child_eval {

// The node of an entry of the child that `row` chooses, after those that it reads: values[base + entry].
int32_t merge_entry(Merger& merger, const Template& space, int32_t entry, const int64_t* row,
                    const std::vector<int32_t>& values, int32_t base, std::vector<int32_t>& scratch);

class RowMerger {
 public:
  RowMerger(Merger& merger, const Template& space);

  // Rows [count][D], all within the space; writes the node of each child, or where its tail is noted a number below -1
  // that stands for it.
  void merge(const int64_t* rows, int64_t count, int32_t* outputs);
  // The operation of a child's output; -1: none.
  int32_t operation_of(int32_t output) const {
    return output < -1 ? noted_[-2 - output].macro : merger_.node(output).macro;
  }
  // The end of merging: all nodes, and those of the outputs.
  void write_all(std::vector<int32_t>& outputs);

 private:
  void find_changes();
  int32_t child(const int64_t* row, int64_t first_change);
  int32_t tail(const int64_t* row);
  // Notes a tail over node x, which nothing has read: the number of its output; -1 where it has to be made at once.
  int32_t note_tail(int32_t x);
  void take_recipes(const int32_t*& from);
  int32_t walk(const Segment& segment, const int64_t* row, int32_t x);
  // Whether the segment's recipe is known for this child and can be copied.
  bool has_recipe(const Segment& segment);

  struct Noted {
    int32_t x;
    int32_t after;  // how many nodes were merged before it
    int32_t macro;  // of the output
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

  std::vector<Noted> noted_;         // tails that are not written yet
  std::vector<int32_t> noted_from_;  // of each, by model in the head: the nodes that its recipe leads from and to
  int32_t tail_nodes_ = 0, tail_inputs_ = 0;  // of all of them

  std::vector<int32_t> values_;  // by entry, of the child at hand
  // Children by the nodes of the segments before the tail: open addressing, at most half full.
  std::vector<int32_t> table_;       // -1: free
  std::vector<int32_t> signatures_;  // of each child in the table
  std::vector<int32_t> results_;
  std::vector<uint8_t> passed_;  // by node: some child comes to the tail by it
  std::vector<int32_t> scratch_;
};

}  // namespace nasfast::child_eval
