// The order in which a merged population is computed, within a memory bound.
//
// Nodes are computed in the order in which they were merged (child by child, in the order of their first decisions),
// and freed after their last use. Where that does not fit, the value that is needed again last is dropped and computed
// again when its time comes (Belady's rule), so a population fits wherever each of its children does.
#pragma once

#include <stdexcept>

#include "plan.h"

namespace nasfast::child_eval {

struct Step {
  int32_t node;
  int32_t slot;               // where the result goes
  int32_t first_input;        // of Schedule::slots: where each of the inputs is
  int32_t first_free, frees;  // of Schedule::freed: slots that are free after the step
};

struct Schedule {
  std::vector<Step> steps;
  std::vector<int32_t> slots, freed;
  int32_t slot_count = 0;
  int64_t peak_bytes = 0;  // of values and of what a step needs beside them
  int64_t computed_again = 0;
};

// What does not fit: at least `needed` bytes are.
struct DoesNotFit : std::runtime_error {
  explicit DoesNotFit(int64_t bytes) : std::runtime_error("child_eval: memory bound too small"), needed(bytes) {}
  int64_t needed;
};

struct NodeBytes {
  int64_t value;   // of the result; 0 for one that is written elsewhere
  int64_t beside;  // needed during its step
};

// Throws DoesNotFit. `bound` in bytes.
Schedule make_schedule(const Plan& plan, const std::vector<uint8_t>& live, const std::vector<NodeBytes>& bytes,
                       int64_t bound);

}  // namespace nasfast::child_eval
