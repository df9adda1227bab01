#include "planner.h"

#include <algorithm>
#include <numeric>
#include <stdexcept>

namespace nasfast::child_eval {
namespace {

uint64_t mix(uint64_t a, uint64_t b) {
  uint64_t x = (a ^ (b + 0x9e3779b97f4a7c15ull)) * 0xbf58476d1ce4e5b9ull;
  x ^= x >> 29;
  x *= 0x94d049bb133111ebull;
  return x ^ (x >> 32);
}

[[noreturn]] void fail(const std::string& message) { throw std::invalid_argument("child_eval: " + message); }

// Rows in lexicographic order, so that neighbours share as many of their first decisions as they can.
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

Planner::Planner(std::vector<Macro> macros, int64_t in_channels) : plan_{std::move(macros), {}, {}, {}}, table_(1024) {
  const Node input{NodeKind::kInput, 0, static_cast<int32_t>(in_channels), -1, 0, 0, mix(1, in_channels)};
  intern(input, nullptr);
}

void Planner::grow() {
  table_.assign(table_.size() * 4, {});
  const size_t mask = table_.size() - 1;
  for (size_t i = 0; i < plan_.nodes.size(); ++i) {
    size_t at = plan_.nodes[i].hash & mask;
    while (table_[at].node >= 0) at = (at + 1) & mask;
    table_[at] = {static_cast<int32_t>(i), static_cast<uint32_t>(plan_.nodes[i].hash >> 32)};
  }
}

int32_t Planner::intern(const Node& node, const int32_t* xs) {
  const size_t mask = table_.size() - 1;
  const uint32_t tag = static_cast<uint32_t>(node.hash >> 32);
  size_t at = node.hash & mask;
  for (; table_[at].node >= 0; at = (at + 1) & mask) {
    if (table_[at].tag != tag) continue;
    const Node& other = plan_.nodes[table_[at].node];
    if (other.hash == node.hash && other.kind == node.kind && other.macro == node.macro &&
        other.channels == node.channels && other.halvings == node.halvings && other.inputs == node.inputs &&
        std::equal(xs, xs + node.inputs, plan_.inputs_of(other)))
      return table_[at].node;
  }
  const int32_t id = static_cast<int32_t>(plan_.nodes.size());
  table_[at] = {id, tag};
  plan_.nodes.push_back(node);
  plan_.nodes.back().first_input = static_cast<int32_t>(plan_.inputs.size());
  plan_.inputs.insert(plan_.inputs.end(), xs, xs + node.inputs);
  if (plan_.nodes.size() * 2 > table_.size()) grow();
  return id;
}

int32_t Planner::zero(int32_t channels, uint8_t halvings) {
  return intern({NodeKind::kZero, halvings, channels, -1, 0, 0, mix(mix(2, channels), halvings)}, nullptr);
}

int32_t Planner::operation(int32_t macro, int32_t x) {
  const Macro& m = plan_.macros[macro];
  const Node& source = plan_.nodes[x];
  if (source.channels != m.c_in)
    fail("operation " + std::to_string(macro) + " must read " + std::to_string(m.c_in) + " channels, got " +
         std::to_string(source.channels) + ": a child of another space");
  if (m.kind == MacroKind::kIdentity) return x;
  const uint8_t halvings = static_cast<uint8_t>(source.halvings + m.halvings);
  if (m.kind == MacroKind::kZero || (m.keeps_zero && source.kind == NodeKind::kZero))
    return zero(static_cast<int32_t>(m.c_out), halvings);
  const uint64_t hash = mix(mix(3, m.place), source.hash);
  return intern({NodeKind::kOperation, halvings, static_cast<int32_t>(m.c_out), macro, 0, 1, hash}, &x);
}

int32_t Planner::sum(const int32_t* xs, int32_t count) {
  const int32_t channels = plan_.nodes[xs[0]].channels;
  const uint8_t halvings = plan_.nodes[xs[0]].halvings;
  terms_.clear();
  for (int32_t i = 0; i < count; ++i) {
    const Node& n = plan_.nodes[xs[i]];
    if (n.channels != channels || n.halvings != halvings)
      fail("a sum must add values of one shape, got " + std::to_string(channels) + " and " +
           std::to_string(n.channels) + " channels at 1/" + std::to_string(1 << halvings) + " and 1/" +
           std::to_string(1 << n.halvings) + " of the image's size");
    if (n.kind == NodeKind::kSum)
      terms_.insert(terms_.end(), plan_.inputs_of(n), plan_.inputs_of(n) + n.inputs);
    else if (n.kind != NodeKind::kZero)
      terms_.push_back(xs[i]);
  }
  if (terms_.empty()) return zero(channels, halvings);
  if (terms_.size() == 1) return terms_[0];
  // By hash and not by number: the order of summation must not depend on the rest of the population.
  std::sort(terms_.begin(), terms_.end(), [&](int32_t a, int32_t b) {
    return plan_.nodes[a].hash != plan_.nodes[b].hash ? plan_.nodes[a].hash < plan_.nodes[b].hash : a < b;
  });
  uint64_t hash = 4;
  for (int32_t t : terms_) hash = mix(hash, plan_.nodes[t].hash);
  return intern({NodeKind::kSum, halvings, channels, -1, 0, static_cast<int32_t>(terms_.size()), hash}, terms_.data());
}

int32_t Planner::concat(const int32_t* xs, int32_t count) {
  if (count == 1) return xs[0];
  uint64_t hash = 5;
  int32_t channels = 0;
  for (int32_t i = 0; i < count; ++i) {
    const Node& n = plan_.nodes[xs[i]];
    if (n.halvings != plan_.nodes[xs[0]].halvings) fail("a concatenation must join images of one size");
    hash = mix(hash, n.hash);
    channels += n.channels;
  }
  return intern({NodeKind::kConcat, plan_.nodes[xs[0]].halvings, channels, -1, 0, count, hash}, xs);
}

int32_t Planner::value(const Template& space, int32_t entry, const int64_t* row, const std::vector<int32_t>& values,
                       int32_t base) {
  const Template::Entry& e = space.entries[entry];
  const int32_t* in = space.inputs.data() + e.first_input;
  switch (e.kind) {
    case NodeKind::kInput:
      return 0;
    case NodeKind::kOperation: {
      const int32_t macro = space.macros[e.first_macro + (e.decision < 0 ? 0 : row[e.decision])];
      return operation(macro, values[base + in[0]]);
    }
    default: {
      given_.clear();
      for (int32_t i = 0; i < e.inputs; ++i) given_.push_back(values[base + in[i]]);
      return e.kind == NodeKind::kSum ? sum(given_.data(), e.inputs) : concat(given_.data(), e.inputs);
    }
  }
}

void Planner::add_rows(const Template& space, const int64_t* rows, int64_t count) {
  const int64_t D = static_cast<int64_t>(space.sizes.size());
  for (int64_t k = 0; k < count; ++k)
    for (int64_t d = 0; d < D; ++d)
      if (rows[k * D + d] < 0 || rows[k * D + d] >= space.sizes[d])
        fail("rows[" + std::to_string(k) + "][" + std::to_string(d) + "] must be 0 to " +
             std::to_string(space.sizes[d] - 1) + ", got " + std::to_string(rows[k * D + d]));
  const int32_t entries = static_cast<int32_t>(space.entries.size());
  // The last decision that each entry depends on, itself or through what it reads; and the entries from there on.
  std::vector<int32_t> depends(entries, -1);
  for (int32_t e = 0; e < entries; ++e) {
    depends[e] = space.entries[e].decision;
    for (int32_t i = 0; i < space.entries[e].inputs; ++i)
      depends[e] = std::max(depends[e], depends[space.inputs[space.entries[e].first_input + i]]);
  }
  std::vector<std::vector<int32_t>> changed(D +
                                            1);  // entries to be looked at again when decision d is the first to change
  for (int64_t d = 0; d <= D; ++d)
    for (int32_t e = 0; e < entries; ++e)
      if (d == 0 || depends[e] >= d) changed[d].push_back(e);

  const auto order = sorted_order(rows, count, space.sizes);
  const size_t base = plan_.outputs.size();
  plan_.outputs.resize(base + count);
  std::vector<int32_t> values(entries, -1);
  const int64_t* before = nullptr;
  for (int64_t k : order) {
    const int64_t* row = rows + k * D;
    const int64_t first = before ? std::mismatch(row, row + D, before).first - row : 0;
    if (first < D || !before)
      for (int32_t e : changed[first]) values[e] = value(space, e, row, values, 0);
    plan_.outputs[base + k] = values[entries - 1];
    before = row;
  }
  for (const auto& e : space.entries) {
    if (e.kind != NodeKind::kOperation) continue;
    if (e.decision < 0) {
      asked_ += plan_.macros[space.macros[e.first_macro]].kind == MacroKind::kOperation ? count : 0;
      continue;
    }
    for (int64_t k = 0; k < count; ++k)
      asked_ += plan_.macros[space.macros[e.first_macro + rows[k * D + e.decision]]].kind == MacroKind::kOperation;
  }
}

void Planner::add_graphs(const Template& graphs, const std::vector<int64_t>& starts) {
  std::vector<int32_t> values(graphs.entries.size());
  for (size_t k = 0; k + 1 < starts.size(); ++k) {
    const int32_t base = static_cast<int32_t>(starts[k]);
    for (int32_t e = base; e < starts[k + 1]; ++e) {
      values[e] = value(graphs, e, nullptr, values, base);
      const auto& entry = graphs.entries[e];
      if (entry.kind == NodeKind::kOperation)
        asked_ += plan_.macros[graphs.macros[entry.first_macro]].kind == MacroKind::kOperation;
    }
    plan_.outputs.push_back(values[starts[k + 1] - 1]);
  }
}

}  // namespace nasfast::child_eval
