#include "rows.h"

#include <algorithm>
#include <numeric>

namespace nasfast::child_eval {
namespace {

constexpr size_t kMostExpected = 2048;  // of many children, most nodes are met before

std::vector<int64_t> sorted_order(const int64_t* rows, int64_t count, const std::vector<int64_t>& sizes) {
  const int64_t D = static_cast<int64_t>(sizes.size());
  std::vector<int64_t> order(count);
  std::iota(order.begin(), order.end(), 0);
  double space = 1;
  for (int64_t s : sizes) space *= static_cast<double>(s);
  if (space < 9e18) {
    std::vector<std::pair<uint64_t, int64_t>> keys(count);
    for (int64_t k = 0; k < count; ++k) {
      uint64_t key = 0;
      for (int64_t d = 0; d < D; ++d) key = key * sizes[d] + rows[k * D + d];
      keys[k] = {key, k};
    }
    std::sort(keys.begin(), keys.end());
    for (int64_t k = 0; k < count; ++k) order[k] = keys[k].second;
  } else {
    std::sort(order.begin(), order.end(), [&](int64_t a, int64_t b) {
      const auto [i, j] = std::mismatch(rows + a * D, rows + (a + 1) * D, rows + b * D);
      return i == rows + (a + 1) * D ? a < b : *i < *j;
    });
  }
  return order;
}

}  // namespace

int32_t merge_entry(Merger& merger, const Template& space, int32_t entry, const int64_t* row,
                    const std::vector<int32_t>& values, int32_t base, std::vector<int32_t>& scratch) {
  const Template::Entry& e = space.entries[entry];
  const int32_t* in = space.inputs_of(e);
  if (e.kind == NodeKind::kInput) return Merger::kImage;
  if (e.kind == NodeKind::kOperation) {
    const int32_t macro = space.macros[e.first_macro + (e.decision < 0 ? 0 : row[e.decision])];
    return merger.operation(macro, values[base + in[0]]);
  }
  scratch.clear();
  for (int32_t i = 0; i < e.inputs; ++i) scratch.push_back(values[base + in[i]]);
  return e.kind == NodeKind::kSum ? merger.sum(scratch.data(), e.inputs) : merger.concat(scratch.data(), e.inputs);
}

RowMerger::RowMerger(Merger& merger, const Template& space)
    : merger_(merger),
      space_(space),
      segments_(find_segments(space, merger.plan().macros)),
      head_entries_(segments_.all[segments_.tail - 1].last + 1),
      slot_of_(merger.plan().macros.size(), -1),
      recipes_(segments_.all.size()),
      taken_(segments_.all.size(), 0),
      has_decisions_(segments_.all.size(), 0),
      values_(space.entries.size(), -1) {
  for (size_t i = 0; i < space.macros.size(); ++i) slot_of_[space.macros[i]] = static_cast<int32_t>(i);
  for (size_t i = 0; i < segments_.all.size(); ++i)
    for (int32_t e = segments_.all[i].first; e <= segments_.all[i].last; ++e)
      has_decisions_[i] |= space.entries[e].decision >= 0;
  for (int32_t s = segments_.tail; s < static_cast<int32_t>(segments_.all.size()); ++s) {
    const int32_t model = segments_.all[s].model;
    const auto same = [&](const Model& m) { return segments_.all[m.segment].model == model; };
    const auto at = std::find_if(models_.begin(), models_.end(), same);
    if (at == models_.end())
      models_.push_back({s, 1, model < segments_.tail});
    else
      ++at->count;
  }
  find_changes();
}

void RowMerger::find_changes() {
  const int32_t decisions = static_cast<int32_t>(space_.sizes.size());
  // The last decision that each entry depends on, itself or through what it reads.
  std::vector<int32_t> depends(head_entries_, -1);
  for (int32_t e = 0; e < head_entries_; ++e) {
    const Template::Entry& entry = space_.entries[e];
    depends[e] = entry.decision;
    for (int32_t i = 0; i < entry.inputs; ++i) depends[e] = std::max(depends[e], depends[space_.inputs_of(entry)[i]]);
  }
  changed_.resize(decisions + 1);
  for (int32_t d = 0; d <= decisions; ++d)
    for (int32_t e = 0; e < head_entries_; ++e)
      if (d == 0 || depends[e] >= d) changed_[d].push_back(e);
}

void RowMerger::merge(const int64_t* rows, int64_t count, int32_t* outputs) {
  const int64_t D = static_cast<int64_t>(space_.sizes.size());
  const auto order = sorted_order(rows, count, space_.sizes);
  size_t places = 16;
  while (places < 2 * static_cast<size_t>(count)) places *= 2;
  table_.assign(places, -1);
  merger_.expect(std::min<size_t>(count, kMostExpected) * changed_.size());
  const int64_t some = count / 8;
  for (int64_t i = 0; i < count; ++i) {
    const int64_t* row = rows + order[i] * D;
    const int64_t* before = i > 0 ? rows + order[i - 1] * D : nullptr;
    const int64_t first = before ? std::mismatch(row, row + D, before).first - row : 0;
    outputs[order[i]] = before && first == D ? outputs[order[i - 1]] : child(row, first);
    if (i == some) merger_.reserve(static_cast<size_t>(merger_.size()) * 10);
  }
}

int32_t RowMerger::child(const int64_t* row, int64_t first_change) {
  for (int32_t e : changed_[first_change]) values_[e] = merge_entry(merger_, space_, e, row, values_, 0, scratch_);
  if (head_entries_ == static_cast<int32_t>(values_.size())) return values_.back();
  const size_t length = segments_.tail;
  const size_t at = signatures_.size();
  uint64_t hash = 0;
  for (size_t s = 0; s < length; ++s) {
    signatures_.push_back(values_[segments_.all[s].last]);
    hash = (hash ^ static_cast<uint64_t>(signatures_.back())) * 0x9e3779b97f4a7c15ull;
    hash ^= hash >> 32;
  }
  const size_t mask = table_.size() - 1;
  size_t place = hash & mask;
  for (; table_[place] >= 0; place = (place + 1) & mask) {
    const auto other = signatures_.begin() + table_[place] * length;
    if (!std::equal(other, other + length, signatures_.begin() + at)) continue;
    signatures_.resize(at);
    return results_[table_[place]];
  }
  table_[place] = static_cast<int32_t>(results_.size());
  results_.push_back(tail(row));
  return results_.back();
}

int32_t RowMerger::tail(const int64_t* row) {
  int32_t x = values_[head_entries_ - 1];
  if (passed_.size() <= static_cast<size_t>(x)) passed_.resize(merger_.size(), 0);
  bool alone = !passed_[x];
  passed_[x] = 1;
  if (alone && !merger_.node(x).constant)
    if (const int32_t output = note_tail(x); output < -1) return output;
  const int32_t known = merger_.size();
  for (size_t s = segments_.tail; s < segments_.all.size(); ++s) {
    const Segment& segment = segments_.all[s];
    x = alone && !merger_.node(x).constant && has_recipe(segment)
            ? recipes_[segment.model].copy(merger_, space_.macros.data() + segment.first_macro, x)
            : walk(segment, row, x);
    alone = alone || x >= known;
  }
  return x;
}

int32_t RowMerger::note_tail(int32_t x) {
  int32_t nodes = 0, inputs = 0;
  for (const Model& m : models_) {
    const Segment& segment = segments_.all[m.segment];
    if (!has_recipe(segment) || !recipes_[segment.model].plain()) return -1;
    nodes += m.count * recipes_[segment.model].nodes();
    inputs += m.count * recipes_[segment.model].inputs();
  }
  const Segment& end = segments_.all.back();
  const int32_t slot = recipes_[end.model].last_slot();
  if (slot < 0) return -1;
  for (const Model& m : models_) {
    if (!m.in_head) continue;
    const Segment& model = segments_.all[segments_.all[m.segment].model];
    noted_from_.push_back(values_[model.input]);
    noted_from_.push_back(values_[model.last]);
  }
  tail_nodes_ += nodes;
  tail_inputs_ += inputs;
  noted_.push_back({x, merger_.size(), space_.macros[end.first_macro + slot]});
  return -1 - static_cast<int32_t>(noted_.size());
}

void RowMerger::take_recipes(const int32_t*& from) {
  for (const Model& m : models_) {
    if (!m.in_head) continue;
    const Segment& segment = segments_.all[m.segment];
    Recipe& recipe = recipes_[segment.model];
    if (!recipe.is_of(from[0], from[1])) recipe.take(merger_, segments_.all[segment.model], slot_of_, from[0], from[1]);
    from += 2;
  }
}

void RowMerger::write_all(std::vector<int32_t>& outputs) {
  if (noted_.empty()) return;
  const Plan& merged = merger_.plan();
  decltype(Plan::nodes) nodes(merged.nodes.size() + tail_nodes_);
  decltype(Plan::inputs) inputs(merged.inputs.size() + tail_inputs_);
  std::vector<int32_t> moved(merged.nodes.size()), ends;
  int32_t done = 0, node = 0, input = 0;
  const auto move_until = [&](int32_t end) {
    for (; done < end; ++done, ++node) {
      Node n = merged.nodes[done];
      const int32_t* reads = merged.inputs_of(n);
      n.first_input = input;
      for (int32_t k = 0; k < n.inputs; ++k) inputs[input++] = moved[reads[k]];
      if (n.dominator >= 0) n.dominator = moved[n.dominator];
      nodes[node] = n;
      moved[done] = node;
    }
  };
  const int32_t* from = noted_from_.data();
  for (const Noted& tail : noted_) {
    move_until(tail.after);
    take_recipes(from);
    int32_t x = moved[tail.x];
    for (size_t s = segments_.tail; s < segments_.all.size(); ++s) {
      const Segment& segment = segments_.all[s];
      Recipe& recipe = recipes_[segment.model];
      const Merger::Block block{nodes.data() + node, inputs.data() + input, node, input};
      x = recipe.write(merger_, space_.macros.data() + segment.first_macro, x, nodes.data(), block);
      node += recipe.nodes();
      input += recipe.inputs();
    }
    ends.push_back(x);
  }
  move_until(static_cast<int32_t>(merged.nodes.size()));
  for (int32_t& output : outputs) output = output < -1 ? ends[-2 - output] : moved[output];
  merger_.replace(std::move(nodes), std::move(inputs));
}

int32_t RowMerger::walk(const Segment& segment, const int64_t* row, int32_t x) {
  values_[segment.input] = x;
  for (int32_t e = segment.first; e <= segment.last; ++e)
    values_[e] = merge_entry(merger_, space_, e, row, values_, 0, scratch_);
  const int32_t model = segment.model;
  const int32_t y = values_[segment.last];
  const bool first = &segment == &segments_.all[model];
  if (first && !has_decisions_[model]) taken_[model] = recipes_[model].take(merger_, segment, slot_of_, x, y);
  return y;
}

bool RowMerger::has_recipe(const Segment& segment) {
  if (segment.model >= segments_.tail) return taken_[segment.model];
  const Segment& model = segments_.all[segment.model];
  const int32_t x = values_[model.input], y = values_[model.last];
  Recipe& recipe = recipes_[segment.model];
  return recipe.is_of(x, y) ? recipe.good() : recipe.take(merger_, model, slot_of_, x, y);
}

}  // namespace nasfast::child_eval
