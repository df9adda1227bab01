// How the architectures of a space are wired, and where a wiring repeats itself. No torch header here.
#pragma once

#include <cstdint>
#include <vector>

#include "plan.h"

namespace nasfast::child_eval {

// Node by node, the operation of some chosen by a decision.
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

  const int32_t* inputs_of(const Entry& e) const { return inputs.data() + e.first_input; }
  int32_t choices(const Entry& e) const {
    return e.kind != NodeKind::kOperation ? 0 : e.decision < 0 ? 1 : static_cast<int32_t>(sizes[e.decision]);
  }
};

// A stretch of entries that reads one earlier entry, `input`, and of which later ones read the last alone: a cell, say.
struct Segment {
  int32_t first, last;
  int32_t input;        // the last entry of the segment before; -1 for the first segment
  int32_t first_macro;  // of its entries
  // The first segment that is the same up to its weights and channels: itself where there is none before.
  int32_t model;
};

struct Segments {
  std::vector<Segment> all;
  // From here on segments follow no decision that none before `tail` does: a segment without decisions, or one whose
  // model comes before. All of them, where operations do not stand at one place each and in the order of their numbers:
  // then copies might meet, or sum in another order. At least 1.
  int32_t tail;
};

Segments find_segments(const Template& space, const std::vector<Macro>& macros);

}  // namespace nasfast::child_eval
