// What machine.cpp keeps of the running grid, for the checks in access.cpp.
#pragma once

#include <string>
#include <vector>

#include "access.h"

namespace simt {

// Up to where the writes of a block can be seen by whoever finds itself last at `counter`.
struct Release {
  const unsigned* counter;
  unsigned block;
  Stamp until;
};

struct Grid {
  std::string name;
  dim3 grid, block;
  size_t shared_bytes = 0;
  std::vector<unsigned> order;      // of the blocks; order[i] is the linear index of the i-th to run
  std::vector<Stamp> block_floors;  // of the blocks that ran, in that order
  std::vector<Release> releases;
  std::vector<const unsigned*> acquired;  // by the running block
};

const Grid& running_grid();
std::string thread_text(int thread);
std::string block_text(unsigned linear);
std::string shared_cell_text(const Cell* cell);

}  // namespace simt
