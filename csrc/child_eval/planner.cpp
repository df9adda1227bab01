#include "planner.h"

#include <stdexcept>
#include <string>

namespace nasfast::child_eval {

const Plan& Planner::plan() {
  if (rows_) rows_->write_all(merger_.outputs());
  rows_.reset();
  return merger_.plan();
}

void Planner::add_rows(Template space, const int64_t* rows, int64_t count) {
  const int64_t D = static_cast<int64_t>(space.sizes.size());
  for (int64_t k = 0; k < count; ++k)
    for (int64_t d = 0; d < D; ++d)
      if (rows[k * D + d] < 0 || rows[k * D + d] >= space.sizes[d])
        throw std::invalid_argument("child_eval: rows[" + std::to_string(k) + "][" + std::to_string(d) +
                                    "] must be 0 to " + std::to_string(space.sizes[d] - 1) + ", got " +
                                    std::to_string(rows[k * D + d]));
  space_ = std::move(space);
  rows_ = std::make_unique<RowMerger>(merger_, space_);
  merger_.outputs().resize(count);
  rows_->merge(rows, count, merger_.outputs().data());
  count_asked(space_, rows, count);
}

void Planner::count_asked(const Template& space, const int64_t* rows, int64_t count) {
  const int64_t D = static_cast<int64_t>(space.sizes.size());
  std::vector<std::vector<int64_t>> chosen(D);  // how often each value of each decision is
  for (int64_t d = 0; d < D; ++d) {
    chosen[d].assign(space.sizes[d], 0);
    for (int64_t k = 0; k < count; ++k) ++chosen[d][rows[k * D + d]];
  }
  for (const auto& e : space.entries)
    for (int32_t i = 0; i < space.choices(e); ++i)
      if (macros()[space.macros[e.first_macro + i]].kind == MacroKind::kOperation)
        asked_ += e.decision < 0 ? count : chosen[e.decision][i];
}

void Planner::add_graphs(const Template& graphs, const std::vector<int64_t>& starts) {
  std::vector<int32_t> values(graphs.entries.size()), scratch;
  for (size_t k = 0; k + 1 < starts.size(); ++k) {
    const int32_t base = static_cast<int32_t>(starts[k]);
    for (int32_t e = base; e < starts[k + 1]; ++e) {
      values[e] = merge_entry(merger_, graphs, e, nullptr, values, base, scratch);
      const auto& entry = graphs.entries[e];
      if (entry.kind == NodeKind::kOperation)
        asked_ += macros()[graphs.macros[entry.first_macro]].kind == MacroKind::kOperation;
    }
    merger_.outputs().push_back(values[starts[k + 1] - 1]);
  }
}

}  // namespace nasfast::child_eval
