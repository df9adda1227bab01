#include "template.h"

#include <algorithm>

namespace nasfast::child_eval {
namespace {

std::vector<Segment> cut(const Template& space) {
  const int32_t entries = static_cast<int32_t>(space.entries.size());
  std::vector<int32_t> last_reader(entries, -1);
  for (int32_t e = 0; e < entries; ++e) {
    const auto& entry = space.entries[e];
    for (int32_t i = 0; i < entry.inputs; ++i) last_reader[space.inputs_of(entry)[i]] = e;
    if (entry.kind == NodeKind::kInput) last_reader[0] = e;  // the images again
  }
  std::vector<Segment> segments;
  int32_t first = 0, reach = -1;  // how far entries before this one are read
  for (int32_t e = 0; e < entries; ++e) {
    if (reach <= e) {
      const int32_t id = static_cast<int32_t>(segments.size());
      segments.push_back({first, e, first - 1, space.entries[first].first_macro, id});
      first = e + 1;
    }
    reach = std::max(reach, last_reader[e]);
  }
  return segments;
}

class Comparison {
 public:
  Comparison(const Template& space, const std::vector<Macro>& macros) : space_(space), macros_(macros) {}

  bool alike(const Segment& a, const Segment& b) const {
    if (a.last - a.first != b.last - b.first || a.input < 0 || b.input < 0) return false;
    for (int32_t i = 0; a.first + i <= a.last; ++i)
      if (!alike(a, space_.entries[a.first + i], b, space_.entries[b.first + i])) return false;
    return true;
  }

  bool has_decisions(const Segment& s) const {
    return std::any_of(begin(s), end(s), [](const auto& e) { return e.decision >= 0; });
  }

 private:
  std::vector<Template::Entry>::const_iterator begin(const Segment& s) const {
    return space_.entries.begin() + s.first;
  }
  std::vector<Template::Entry>::const_iterator end(const Segment& s) const {
    return space_.entries.begin() + s.last + 1;
  }

  bool alike(const Segment& a, const Template::Entry& one, const Segment& b, const Template::Entry& other) const {
    if (one.kind != other.kind || one.decision != other.decision || one.inputs != other.inputs) return false;
    for (int32_t i = 0; i < one.inputs; ++i)
      if (space_.inputs_of(one)[i] - a.input != space_.inputs_of(other)[i] - b.input) return false;
    for (int32_t i = 0; i < space_.choices(one); ++i) {
      const Macro& m = macros_[space_.macros[one.first_macro + i]];
      const Macro& n = macros_[space_.macros[other.first_macro + i]];
      if (m.kind != n.kind || m.keeps_zero != n.keeps_zero || m.halvings != n.halvings) return false;
    }
    return true;
  }

  const Template& space_;
  const std::vector<Macro>& macros_;
};

// Each operation stands at one place alone, and they are numbered in order.
bool operations_rise(const Template& space, const std::vector<Macro>& macros) {
  int64_t last = -1;
  for (int32_t macro : space.macros) {
    if (macros[macro].kind != MacroKind::kOperation) continue;
    if (macros[macro].place <= last) return false;
    last = macros[macro].place;
  }
  return true;
}

}  // namespace

Segments find_segments(const Template& space, const std::vector<Macro>& macros) {
  Segments out{cut(space), 0};
  auto& all = out.all;
  const Comparison comparison(space, macros);
  for (size_t i = 1; i < all.size(); ++i)
    for (size_t j = 1; j < i && all[i].model == static_cast<int32_t>(i); ++j)
      if (all[j].model == static_cast<int32_t>(j) && comparison.alike(all[j], all[i])) all[i].model = all[j].model;
  out.tail = static_cast<int32_t>(all.size());
  if (!operations_rise(space, macros)) return out;
  while (out.tail > 1 && (all[out.tail - 1].model < out.tail - 1 || !comparison.has_decisions(all[out.tail - 1])))
    --out.tail;
  return out;
}

}  // namespace nasfast::child_eval
