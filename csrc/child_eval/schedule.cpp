#include "schedule.h"

#include <algorithm>

namespace nasfast::child_eval {
namespace {

constexpr int32_t kNever = INT32_MAX;

class Walk {
 public:
  Walk(const Plan& plan, const std::vector<uint8_t>& live, const std::vector<NodeBytes>& bytes, int64_t bound)
      : plan_(plan), nodes_(plan.nodes), bytes_(bytes), bound_(bound), slot_(nodes_.size(), -1), pins_(nodes_.size()) {
    // Readers of every node, in order, one list after the other.
    first_use_.assign(nodes_.size() + 1, 0);
    each_use(live, [&](int32_t source, int32_t) { ++first_use_[source + 1]; });
    for (size_t i = 0; i < nodes_.size(); ++i) first_use_[i + 1] += first_use_[i];
    uses_.resize(first_use_.back());
    next_use_ = first_use_;
    each_use(live, [&](int32_t source, int32_t reader) { uses_[next_use_[source]++] = reader; });
    next_use_ = first_use_;
    for (size_t i = 0; i < nodes_.size(); ++i)
      if (live[i]) visit(static_cast<int32_t>(i));
    out_.slot_count = slots_;
  }

  Schedule take() { return std::move(out_); }

 private:
  template <class F>
  void each_use(const std::vector<uint8_t>& live, F&& f) const {
    for (size_t i = 0; i < nodes_.size(); ++i)
      for (int32_t k = 0; live[i] && k < nodes_[i].inputs; ++k)
        f(plan_.inputs_of(nodes_[i])[k], static_cast<int32_t>(i));
  }

  int32_t next_use(int32_t node) const {
    return next_use_[node] < first_use_[node + 1] ? uses_[next_use_[node]] : kNever;
  }

  // Computes a node at its own place, after which its inputs are used once more.
  void visit(int32_t node) {
    compute(node);
    const Node& n = nodes_[node];
    for (int32_t k = 0; k < n.inputs; ++k) {
      const int32_t source = plan_.inputs_of(n)[k];
      while (next_use(source) <= node) ++next_use_[source];
    }
    for (int32_t k = 0; k < n.inputs; ++k) drop_unused(plan_.inputs_of(n)[k]);
    drop_unused(node);
  }

  void compute(int32_t node) {
    const Node& n = nodes_[node];
    const int32_t* in = plan_.inputs_of(n);
    for (int32_t k = 0; k < n.inputs; ++k) {
      if (slot_[in[k]] < 0) {
        compute(in[k]);
        ++out_.computed_again;
      }
      ++pins_[in[k]];
    }
    make_room(bytes_[node].value + bytes_[node].beside);
    emit(node);
    for (int32_t k = 0; k < n.inputs; ++k) --pins_[in[k]];
    for (int32_t k = 0; k < n.inputs; ++k) drop_unused(in[k]);
  }

  void emit(int32_t node) {
    const Node& n = nodes_[node];
    Step step{node, -1, static_cast<int32_t>(out_.slots.size()), 0, 0};
    for (int32_t k = 0; k < n.inputs; ++k) out_.slots.push_back(slot_[plan_.inputs_of(n)[k]]);
    if (free_.empty()) free_.push_back(slots_++);
    step.slot = free_.back();
    free_.pop_back();
    slot_[node] = step.slot;
    if (bytes_[node].value > 0) resident_.push_back(node);
    used_ += bytes_[node].value;
    step.first_free = static_cast<int32_t>(out_.freed.size());
    out_.steps.push_back(step);
    out_.peak_bytes = std::max(out_.peak_bytes, used_ + bytes_[node].beside);
  }

  void make_room(int64_t wanted) {
    while (used_ + wanted > bound_) {
      int32_t victim = -1;
      int64_t pinned = 0;
      for (int32_t node : resident_) {
        if (pins_[node] > 0)
          pinned += bytes_[node].value;
        else if (victim < 0 || next_use(node) > next_use(victim))
          victim = node;
      }
      if (victim < 0) throw DoesNotFit(pinned + wanted);
      drop(victim);
    }
  }

  void drop_unused(int32_t node) {
    if (slot_[node] >= 0 && pins_[node] == 0 && next_use(node) == kNever) drop(node);
  }

  void drop(int32_t node) {
    free_.push_back(slot_[node]);
    out_.freed.push_back(slot_[node]);
    ++out_.steps.back().frees;
    slot_[node] = -1;
    used_ -= bytes_[node].value;
    if (bytes_[node].value > 0) {
      // Mostly one of the last: values live shortly.
      const auto at = std::find(resident_.rbegin(), resident_.rend(), node);
      *at = resident_.back();
      resident_.pop_back();
    }
  }

  const Plan& plan_;
  const std::vector<Node, Unwritten<Node>>& nodes_;
  const std::vector<NodeBytes>& bytes_;
  const int64_t bound_;
  std::vector<int32_t> first_use_, next_use_, uses_;
  std::vector<int32_t> slot_, pins_, free_, resident_;
  int32_t slots_ = 0;
  int64_t used_ = 0;
  Schedule out_;
};

}  // namespace

Schedule make_schedule(const Plan& plan, const std::vector<uint8_t>& live, const std::vector<NodeBytes>& bytes,
                       int64_t bound) {
  return Walk(plan, live, bytes, bound).take();
}

}  // namespace nasfast::child_eval
