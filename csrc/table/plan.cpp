#include "plan.h"

#include <algorithm>

#include "../core/types.h"

namespace nasfast::table {
namespace {

constexpr int32_t kCachedRows = 1024;  // of a table, 128 KiB in float32
constexpr int32_t kCachedFeatures = 128;
constexpr int64_t kCachedOutputs = 4096;  // rows x members of a chunk, 256 KiB in float32
constexpr int64_t kTasksPerThread = 2;

}  // namespace

std::vector<Block> equal_blocks(int32_t features, int32_t most) {
  const auto blocks = static_cast<int32_t>(ceil_div(features, most));
  std::vector<Block> out;
  for (int32_t b = 0, first = 0; b < blocks; ++b) {
    const int32_t count = features / blocks + (b < features % blocks);
    out.push_back({first, count});
    first += count;
  }
  return out;
}

std::vector<Block> cached_blocks(const Layout& layout) {
  std::vector<Block> out;
  for (int32_t f = 0; f < layout.features(); ++f) {
    const bool joins = !out.empty() && out.back().count < kCachedFeatures &&
                       layout.offsets[f + 1] - layout.offsets[out.back().first] <= kCachedRows;
    if (joins)
      ++out.back().count;
    else
      out.push_back({f, 1});
  }
  return out;
}

int32_t most_rows(const Layout& layout, const std::vector<Block>& blocks) {
  int32_t most = 0;
  for (const Block& b : blocks) most = std::max(most, layout.offsets[b.first + b.count] - layout.offsets[b.first]);
  return most;
}

int32_t most_features(const std::vector<Block>& blocks) {
  int32_t most = 0;
  for (const Block& b : blocks) most = std::max(most, b.count);
  return most;
}

int64_t batch_rows(int64_t members) {
  return std::clamp<int64_t>(kCachedOutputs / std::max<int64_t>(members, 1), 64, 1024);
}

int64_t parts_for(int64_t tasks, int64_t threads, int64_t most) {
  return std::clamp<int64_t>(ceil_div(kTasksPerThread * threads, std::max<int64_t>(tasks, 1)), 1, most);
}

}  // namespace nasfast::table
