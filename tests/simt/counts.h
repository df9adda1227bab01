// What ran: one record per launch.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "machine.h"

namespace simt {

struct Launch {
  std::string name;
  dim3 grid, block;
  size_t shared_bytes = 0;
  uint64_t bytes_read = 0, bytes_written = 0;    // as the threads asked for them
  uint64_t unique_read = 0, unique_written = 0;  // every byte once: what memory moves if caches are perfect
};

std::vector<Launch>& launches();

// Thread and block orders follow from the seed and the number of launches since.
void set_seed(uint64_t seed);

}  // namespace simt
