#include "copies.h"

#include <algorithm>

namespace nasfast::child_eval {

bool Recipe::take(const Merger& merger, const Segment& segment, const std::vector<int32_t>& slot_of, int32_t x,
                  int32_t y) {
  x_ = x;
  y_ = y;
  constants_ = block_inputs_ = 0;
  steps_.clear();
  reads_.clear();
  nodes_.assign(1, x);
  good_ = !merger.node(x).constant && !merger.node(y).constant && (x == y || find_nodes(merger));
  segment_ = &segment;
  slot_of_ = &slot_of;
  last_slot_ = x != y && merger.node(y).kind == NodeKind::kOperation ? slot(merger.node(y)) : -1;
  return good_;
}

int32_t Recipe::slot(const Node& operation) const { return (*slot_of_)[operation.macro] - segment_->first_macro; }

// What lies between x and y. False where a node is not of the segment, or cannot be copied.
bool Recipe::find_nodes(const Merger& merger) {
  nodes_.push_back(y_);
  for (size_t i = 1; i < nodes_.size(); ++i) {
    const Node& n = merger.node(nodes_[i]);
    if (!n.constant && nodes_[i] < x_) return false;
    constants_ += n.constant;
    if (!n.constant) block_inputs_ += n.inputs;
    for (int32_t k = 0; k < n.inputs; ++k) {
      const int32_t source = merger.plan().inputs_of(n)[k];
      const NodeKind kind = merger.node(source).kind;
      // A sum that would have to take x apart, or put parts of it in order.
      if (n.kind == NodeKind::kSum && (kind == NodeKind::kConcat || (source == x_ && n.dominator != x_))) return false;
      if (n.kind != NodeKind::kOperation && kind == NodeKind::kZero) return false;
      if (std::find(nodes_.begin(), nodes_.end(), source) == nodes_.end()) nodes_.push_back(source);
    }
  }
  return true;
}

// The steps, constants first, each part in order.
void Recipe::build(const Merger& merger) {
  if (!steps_.empty() || nodes_.size() == 1) return;
  const auto is_constant = [&](int32_t id) { return merger.node(id).constant; };
  std::sort(nodes_.begin() + 1, nodes_.end());
  if (constants_ > 0) std::stable_partition(nodes_.begin() + 1, nodes_.end(), is_constant);
  for (size_t i = 1; i < nodes_.size(); ++i) add_step(merger, merger.node(nodes_[i]));
  ids_.resize(nodes_.size());
}

void Recipe::add_step(const Merger& merger, const Node& n) {
  const auto place = [&](int32_t node) {
    const auto at = std::find(nodes_.begin(), nodes_.end(), node);
    return at == nodes_.end() ? -1 : static_cast<int32_t>(at - nodes_.begin());
  };
  steps_.push_back({n.kind, n.kind == NodeKind::kOperation ? slot(n) : -1, n.halvings - merger.node(x_).halvings,
                    static_cast<int32_t>(reads_.size()), n.inputs, place(n.dominator)});
  for (int32_t k = 0; k < n.inputs; ++k) reads_.push_back(place(merger.plan().inputs_of(n)[k]));
}

int32_t Recipe::copy(Merger& merger, const int32_t* macros, int32_t x) {
  build(merger);
  if (steps_.empty()) return x;
  ids_[0] = x;
  for (int32_t i = 0; i < constants_; ++i) ids_[i + 1] = copy_constant(merger, macros, steps_[i], x);
  const auto block = merger.new_block(nodes() - constants_, block_inputs_);
  write_steps(merger.plan().macros, macros, merger.plan().nodes.data(), block);
  return ids_[nodes()];
}

int32_t Recipe::write(const Merger& from, const int32_t* macros, int32_t x, const Node* nodes,
                      const Merger::Block& block) {
  build(from);
  if (steps_.empty()) return x;
  ids_[0] = x;
  write_steps(from.plan().macros, macros, nodes, block);
  return ids_[this->nodes()];
}

void Recipe::write_steps(const std::vector<Macro>& known, const int32_t* macros, const Node* nodes,
                         const Merger::Block& block) {
  const int32_t steps = this->nodes();
  Node* node = block.nodes;
  int32_t* input = block.inputs;
  for (int32_t i = constants_; i < steps; ++i, ++node) {
    const Step& step = steps_[i];
    const int32_t first_input = block.first_input + static_cast<int32_t>(input - block.inputs);
    const int32_t x0 = ids_[reads_[step.first]];
    const Node& source = nodes[x0];
    if (step.kind == NodeKind::kOperation) {
      const int32_t macro = macros[step.slot];
      const Macro& m = known[macro];
      if (source.channels != m.c_in) Merger::fail_operation(macro, m.c_in, source);
      *input++ = x0;
      *node = {step.kind, static_cast<uint8_t>(source.halvings + m.halvings),
               false,     static_cast<int32_t>(m.c_out),
               macro,     first_input,
               1,         x0};
    } else {
      int32_t channels = 0;
      for (int32_t k = 0; k < step.count; ++k) {
        const int32_t id = ids_[reads_[step.first + k]];
        const Node& term = nodes[id];
        if (step.kind == NodeKind::kSum && (term.channels != source.channels || term.halvings != source.halvings))
          Merger::fail_sum(source, term);
        channels += term.channels;
        *input++ = id;
      }
      *node = {step.kind, source.halvings, false,      step.kind == NodeKind::kSum ? source.channels : channels,
               -1,        first_input,     step.count, step.dominator < 0 ? -1 : ids_[step.dominator]};
    }
    ids_[i + 1] = block.first_node + i - constants_;
  }
}

int32_t Recipe::copy_constant(Merger& merger, const int32_t* macros, const Step& step, int32_t x) {
  if (step.kind == NodeKind::kZero) return Merger::kImage;  // not read: each operation has one of its own channels
  if (step.kind == NodeKind::kOperation) {
    const int32_t macro = macros[step.slot];
    const Step& source = steps_[reads_[step.first] - 1];
    if (source.kind != NodeKind::kZero) return merger.operation(macro, ids_[reads_[step.first]]);
    const int32_t channels = static_cast<int32_t>(merger.plan().macros[macro].c_in);
    return merger.operation(macro, merger.zero(channels, merger.node(x).halvings + source.halvings));
  }
  terms_.clear();
  for (int32_t i = 0; i < step.count; ++i) terms_.push_back(ids_[reads_[step.first + i]]);
  return step.kind == NodeKind::kSum ? merger.sum(terms_.data(), step.count) : merger.concat(terms_.data(), step.count);
}

}  // namespace nasfast::child_eval
