// How the rows of weights belong to features, and how features, rows and lanes are cut into pieces of work. The cuts
// that change an order of summation depend on shapes alone, never on the number of threads.
#pragma once

#include <cstdint>
#include <vector>

namespace nasfast::table {

// Feature f owns rows [offsets[f], offsets[f + 1]) of the weights: its increments, then its lookups.
struct Layout {
  std::vector<int32_t> increments, offsets;
  int32_t features() const { return static_cast<int32_t>(increments.size()); }
  int32_t rows() const { return offsets.back(); }
};

// Features side by side.
struct Block {
  int32_t first, count;
};

// Blocks of at most `most` features, their sizes as equal as can be.
std::vector<Block> equal_blocks(int32_t features, int32_t most);

// Blocks whose rows a kernel's table holds in the second-level cache, where a feature alone fits.
std::vector<Block> cached_blocks(const Layout& layout);

// The most rows of weights that a block has.
int32_t most_rows(const Layout& layout, const std::vector<Block>& blocks);
int32_t most_features(const std::vector<Block>& blocks);

// Rows of a batch whose outputs of one chunk of lanes fit in the second-level cache.
int64_t batch_rows(int64_t members);

// Parts, at most `most`, to cut each of `tasks` into so that all threads are busy.
int64_t parts_for(int64_t tasks, int64_t threads, int64_t most);

}  // namespace nasfast::table
