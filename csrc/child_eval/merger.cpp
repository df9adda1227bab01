#include "merger.h"

#include <algorithm>
#include <mutex>
#include <stdexcept>

namespace nasfast::child_eval {
namespace {

[[noreturn]] void fail(const std::string& message) { throw std::invalid_argument("child_eval: " + message); }

constexpr size_t kFewestPlaces = 1024;

uint64_t mix(uint64_t hash, uint64_t value) {
  const uint64_t x = (hash ^ value) * 0x9e3779b97f4a7c15ull;
  return x ^ (x >> 32);
}

constexpr size_t kMostSpareNodes = 1 << 20;

}  // namespace

// Memory of the last plan, for the next one: to be given fresh pages takes longer than to write to them.
struct Merger::Spare {
  std::mutex mutex;
  decltype(Plan::nodes) nodes;
  decltype(Plan::inputs) inputs;
  std::vector<Place> table;

  static void swap(Merger& merger) {
    static Spare it;
    const std::lock_guard lock(it.mutex);
    it.nodes.swap(merger.plan_.nodes);
    it.inputs.swap(merger.plan_.inputs);
    it.table.swap(merger.table_);
  }
};

Merger::Merger(std::vector<Macro> macros, int64_t in_channels) : plan_{std::move(macros), {}, {}, {}} {
  Spare::swap(*this);
  table_.assign(kFewestPlaces, Place{});
  intern({NodeKind::kInput, 0, false, static_cast<int32_t>(in_channels), -1, 0, 0, -1}, nullptr);
}

Merger::~Merger() {
  if (plan_.nodes.capacity() > kMostSpareNodes) return;
  plan_.nodes.clear();
  plan_.inputs.clear();
  Spare::swap(*this);
}

void Merger::reserve(size_t nodes) {
  plan_.nodes.reserve(nodes);
  plan_.inputs.reserve(nodes * 3 / 2);
}

uint32_t Merger::hash_of(const Node& node, const int32_t* xs) {
  uint64_t hash = mix(static_cast<uint64_t>(node.kind) << 8 | node.halvings,
                      static_cast<uint64_t>(node.macro) << 32 | static_cast<uint32_t>(node.channels));
  for (int32_t i = 0; i < node.inputs; ++i) hash = mix(hash, static_cast<uint64_t>(xs[i]));
  return static_cast<uint32_t>(hash);
}

void Merger::enter(int32_t id, uint32_t hash) {
  if (++entered_ * 2 > table_.size()) grow();
  const size_t mask = table_.size() - 1;
  size_t at = hash & mask;
  while (table_[at].node >= 0) at = (at + 1) & mask;
  table_[at] = {id, hash};
}

void Merger::expect(size_t nodes) {
  size_t places = table_.size();
  while (places < 2 * nodes) places *= 2;
  if (places <= table_.size()) return;
  table_.assign(places, Place{});  // in the memory of the last plan
  entered_ = 0;
  enter(kImage, hash_of(plan_.nodes[kImage], nullptr));
}

void Merger::grow() { rehash(table_.size() * 4); }

void Merger::rehash(size_t places) {
  std::vector<Place> before(places);
  before.swap(table_);
  const size_t mask = table_.size() - 1;
  for (const Place& place : before) {
    if (place.node < 0) continue;
    size_t at = place.hash & mask;
    while (table_[at].node >= 0) at = (at + 1) & mask;
    table_[at] = place;
  }
}

int32_t Merger::intern(const Node& node, const int32_t* xs) {
  const size_t mask = table_.size() - 1;
  const uint32_t hash = hash_of(node, xs);
  for (size_t at = hash & mask; table_[at].node >= 0; at = (at + 1) & mask) {
    if (table_[at].hash != hash) continue;
    const Node& other = plan_.nodes[table_[at].node];
    if (other.kind == node.kind && other.macro == node.macro && other.channels == node.channels &&
        other.halvings == node.halvings && other.inputs == node.inputs &&
        std::equal(xs, xs + node.inputs, plan_.inputs_of(other)))
      return table_[at].node;
  }
  const int32_t id = size();
  plan_.nodes.push_back(node);
  plan_.nodes.back().first_input = static_cast<int32_t>(plan_.inputs.size());
  plan_.inputs.insert(plan_.inputs.end(), xs, xs + node.inputs);
  enter(id, hash);
  return id;
}

Merger::Block Merger::new_block(int32_t nodes, int32_t inputs) {
  const int32_t first_node = size(), first_input = static_cast<int32_t>(plan_.inputs.size());
  plan_.nodes.resize(first_node + nodes);
  plan_.inputs.resize(first_input + inputs);
  return {plan_.nodes.data() + first_node, plan_.inputs.data() + first_input, first_node, first_input};
}

void Merger::replace(decltype(Plan::nodes) nodes, decltype(Plan::inputs) inputs) {
  plan_.nodes = std::move(nodes);
  plan_.inputs = std::move(inputs);
  table_.clear();
}

int32_t Merger::zero(int32_t channels, int halvings) {
  return intern({NodeKind::kZero, static_cast<uint8_t>(halvings), true, channels, -1, 0, 0, -1}, nullptr);
}

int32_t Merger::operation(int32_t macro, int32_t x) {
  const Macro& m = plan_.macros[macro];
  const Node source = plan_.nodes[x];
  if (source.channels != m.c_in) fail_operation(macro, m.c_in, source);
  if (m.kind == MacroKind::kIdentity) return x;
  const uint8_t halvings = static_cast<uint8_t>(source.halvings + m.halvings);
  const int32_t channels = static_cast<int32_t>(m.c_out);
  if (m.kind == MacroKind::kZero || (m.keeps_zero && source.kind == NodeKind::kZero)) return zero(channels, halvings);
  return intern({NodeKind::kOperation, halvings, source.constant, channels, macro, 0, 1, x}, &x);
}

// The last of the values through which both a and b pass. Numbers rise along the way.
int32_t Merger::common_dominator(int32_t a, int32_t b) const {
  while (a != b) (a > b ? a : b) = plan_.nodes[std::max(a, b)].dominator;
  return a;
}

// The order of summands. By what they are and not by number: it must not depend on the rest of the population.
bool Merger::precedes(int32_t a, int32_t b) const {
  while (a != b) {
    const Node &one = plan_.nodes[a], &other = plan_.nodes[b];
    const auto rank = [](NodeKind kind) {
      return kind == NodeKind::kOperation ? 1 + static_cast<int>(NodeKind::kZero) : static_cast<int>(kind);
    };
    if (one.kind != other.kind) return rank(one.kind) < rank(other.kind);
    if (one.macro != other.macro) return plan_.macros[one.macro].place < plan_.macros[other.macro].place;
    if (one.inputs != other.inputs) return one.inputs < other.inputs;
    if (one.channels != other.channels) return one.channels < other.channels;
    if (one.halvings != other.halvings) return one.halvings < other.halvings;
    const int32_t* in = plan_.inputs_of(one);
    const auto [i, j] = std::mismatch(in, in + one.inputs, plan_.inputs_of(other));
    if (i == in + one.inputs) return false;
    a = *i;
    b = *j;
  }
  return false;
}

void Merger::take_apart(int32_t sum, int32_t whole) {
  const Node& n = plan_.nodes[sum];
  for (int32_t i = 0; i < n.inputs; ++i) {
    const int32_t term = plan_.inputs_of(n)[i];
    if (term != whole && plan_.nodes[term].kind == NodeKind::kSum)
      take_apart(term, whole);
    else
      terms_.push_back(term);
  }
}

int32_t Merger::sum(const int32_t* xs, int32_t count) {
  const Node first = plan_.nodes[xs[0]];
  int32_t dominator = -1, summands = 0;
  bool constant = true;
  for (int32_t i = 0; i < count; ++i) {
    const Node& n = plan_.nodes[xs[i]];
    if (n.channels != first.channels || n.halvings != first.halvings) fail_sum(first, n);
    if (n.kind == NodeKind::kZero) continue;
    dominator = summands++ ? common_dominator(dominator, xs[i]) : xs[i];
    constant &= n.constant;
  }
  if (summands == 0) return zero(first.channels, first.halvings);
  if (summands == 1) return dominator;
  terms_.clear();
  for (int32_t i = 0; i < count; ++i) {
    const NodeKind kind = plan_.nodes[xs[i]].kind;
    if (kind == NodeKind::kSum && xs[i] != dominator)
      take_apart(xs[i], dominator);
    else if (kind != NodeKind::kZero)
      terms_.push_back(xs[i]);
  }
  std::sort(terms_.begin(), terms_.end(), [&](int32_t a, int32_t b) { return precedes(a, b); });
  const int32_t terms = static_cast<int32_t>(terms_.size());
  return intern({NodeKind::kSum, first.halvings, constant, first.channels, -1, 0, terms, dominator}, terms_.data());
}

int32_t Merger::concat(const int32_t* xs, int32_t count) {
  if (count == 1) return xs[0];
  int32_t dominator = xs[0], channels = 0;
  const uint8_t halvings = plan_.nodes[xs[0]].halvings;
  bool constant = true;
  for (int32_t i = 0; i < count; ++i) {
    const Node& n = plan_.nodes[xs[i]];
    if (n.halvings != halvings) fail("a concatenation must join images of one size");
    dominator = common_dominator(dominator, xs[i]);
    channels += n.channels;
    constant &= n.constant;
  }
  return intern({NodeKind::kConcat, halvings, constant, channels, -1, 0, count, dominator}, xs);
}

void Merger::fail_operation(int32_t macro, int64_t channels, const Node& source) {
  fail("operation " + std::to_string(macro) + " must read " + std::to_string(channels) + " channels, got " +
       std::to_string(source.channels) + ": a child of another space");
}

void Merger::fail_sum(const Node& a, const Node& b) {
  fail("a sum must add values of one shape, got " + std::to_string(a.channels) + " and " + std::to_string(b.channels) +
       " channels at 1/" + std::to_string(1 << a.halvings) + " and 1/" + std::to_string(1 << b.halvings) +
       " of the image's size");
}

}  // namespace nasfast::child_eval
