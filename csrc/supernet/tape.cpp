#include "tape.h"

#include <c10/util/Exception.h>

#include <algorithm>
#include <map>

namespace nasfast::supernet {

int64_t Tape::slice_stride(const Value& v) const {
  const int64_t most = std::min<int64_t>(kSliceImages, images);
  if (v.pooled) return most * padded_channels(v.channels);
  return value_elements(v.channels, most * v.h * v.w);
}

ConvShape Tape::shape(const Step& s, int slice) const {
  const Value &x = values[in(s)[0]], &y = values[s.out];
  return {slice_images(slice),
          static_cast<int>(blocks_of(x.channels)),
          static_cast<int>(blocks_of(y.channels)),
          x.h,
          x.w,
          y.h,
          y.w,
          s.unit->kernel,
          s.unit->stride,
          s.unit->dilation};
}

std::vector<uint8_t> Tape::alive_units(const Program& program) const {
  std::vector<uint8_t> alive(program.units.size(), 0);
  for (const Step& s : steps)
    if (s.unit && is_alive(s)) alive[s.unit - program.units.data()] = 1;
  return alive;
}

class Tape::Builder {
 public:
  Builder(Tape& tape, const Program& program, const int64_t* index, Statistics statistics)
      : t_(tape), p_(program), index_(index), statistics_(statistics) {}

  void build(int64_t channels, int64_t height, int64_t width) {
    std::vector<std::vector<int>> at;  // value of every entry and group
    for (const Entry& e : p_.entries) {
      std::vector<int> out(t_.groups);
      if (e.kind == EntryKind::kInput) {
        for (int g = 0; g < t_.groups; ++g) {
          out[g] = add_value(g, channels, static_cast<int>(height), static_cast<int>(width));
          t_.values[out[g]].images = true;
          push({StepKind::kPack, nullptr, g, 0, 0, out[g]}, {});
        }
        close_stage();
      } else if (e.kind == EntryKind::kOperation) {
        out = operation(e, at[e.inputs[0]]);
      } else {
        for (int g = 0; g < t_.groups; ++g)
          for (int64_t i : e.inputs)
            if (e.kind == EntryKind::kConcat && e.inputs.size() > 1) solid(at[i][g]);
        close_stage();
        for (int g = 0; g < t_.groups; ++g) {
          std::vector<int> xs;
          for (int64_t i : e.inputs) xs.push_back(at[i][g]);
          out[g] = e.kind == EntryKind::kSum ? sum(g, xs) : concat(g, xs);
        }
        close_stage();
      }
      at.push_back(std::move(out));
    }
    t_.outputs = at.back();
    for (int v : t_.outputs)
      TORCH_CHECK(t_.values[v].channels == t_.values[t_.outputs[0]].channels &&
                      t_.values[v].h == t_.values[t_.outputs[0]].h && t_.values[v].w == t_.values[t_.outputs[0]].w,
                  "supernet_paths: all groups must give outputs of one shape");
  }

  void find_alive() {
    for (int v : t_.outputs) {
      t_.values[v].alive = true;
      ++t_.values[v].readers;
    }
    for (size_t i = t_.stages.size(); i-- > 0;) {
      const Stage& stage = t_.stages[i];
      for (int n = stage.first_norm; n < stage.first_norm + stage.norms; ++n) share_life(t_.norms[n]);
      for (int k = stage.first_step; k < stage.first_step + stage.steps; ++k) {
        const Step& s = t_.steps[k];
        if (!t_.is_alive(s)) continue;
        for (int j = 0; j < s.inputs; ++j) {
          Value& x = t_.values[t_.in(s)[j]];
          x.alive = true;
          ++x.readers;
        }
      }
    }
  }

  void place(bool keep) {
    for (size_t stage = 0; stage < t_.stages.size(); ++stage) {
      const Stage& st = t_.stages[stage];
      for (int i = st.first_step; i < st.first_step + st.steps; ++i) {
        const Step& s = t_.steps[i];
        owner(s.out).last_stage = static_cast<int>(stage);
        for (int k = 0; k < s.inputs; ++k) owner(t_.in(s)[k]).last_stage = static_cast<int>(stage);
        if (keep && t_.is_alive(s)) mark_kept(s);
      }
    }
    for (int v : t_.outputs) owner(v).last_stage = static_cast<int>(t_.stages.size());
    for (Value& v : t_.values) {
      if (!v.kept) continue;
      v.offset = t_.kept_elements;
      t_.kept_elements += t_.elements(v);
    }
  }

 private:
  Value& owner(int v) { return t_.values[t_.values[v].data]; }

  // Results that are normalised together depend on each other through their statistics.
  void share_life(const NormUse& use) {
    const auto out = [&](int member) -> Value& { return t_.values[t_.steps[member].out]; };
    const bool any = std::any_of(use.members.begin(), use.members.end(), [&](int m) { return out(m).alive; });
    for (int m : use.members) out(m).alive |= any && use.stats_offset >= 0;
  }

  void mark_kept(const Step& s) {
    const auto keep = [&](int v) { owner(v).kept = true; };
    if (s.kind != StepKind::kUnit) return;
    const Value& y = t_.values[s.out];
    const int x = t_.in(s)[0];
    if (y.norm >= 0 || y.act != Act::kNone || y.pooled) keep(s.out);
    const UnitKind kind = s.unit->kind;
    if (s.unit->is_conv() || kind == UnitKind::kMaximumPool) keep(x);
    if (kind == UnitKind::kNorm && (s.unit->norm < 0 || s.unit->before != Act::kNone)) keep(x);
    if (kind == UnitKind::kPick && s.unit->before != Act::kNone) keep(x);
  }

  int add_value(int group, int64_t channels, int h, int w) {
    Value v;
    v.group = group;
    v.channels = channels;
    v.h = h;
    v.w = w;
    v.data = static_cast<int>(t_.values.size());
    t_.values.push_back(v);
    return v.data;
  }

  void push(Step s, const std::vector<int>& xs) {
    s.first_input = static_cast<int>(t_.inputs.size());
    s.inputs = static_cast<int>(xs.size());
    t_.inputs.insert(t_.inputs.end(), xs.begin(), xs.end());
    t_.steps.push_back(s);
  }

  void close_stage() {
    const int step = t_.stages.empty() ? 0 : t_.stages.back().first_step + t_.stages.back().steps;
    const int norm = t_.stages.empty() ? 0 : t_.stages.back().first_norm + t_.stages.back().norms;
    const int steps = static_cast<int>(t_.steps.size()) - step, norms = static_cast<int>(t_.norms.size()) - norm;
    if (steps > 0) t_.stages.push_back({step, steps, norm, norms});
  }

  int add_zero(int group, int64_t channels, int h, int w) {
    const int v = add_value(group, channels, h, w);
    t_.values[v].zero = true;
    return v;
  }

  // The value, or zeros in memory where it has none. Called between stages.
  int solid(int v) {
    const Value x = t_.values[v];
    if (!x.zero) return v;
    auto& filled = filled_[v];
    if (filled == 0) {
      filled = add_value(x.group, x.channels, x.h, x.w);
      t_.values[filled].constant = true;
      push({StepKind::kFill, nullptr, x.group, 0, 0, filled}, {});
    }
    return filled;
  }

  std::vector<int> operation(const Entry& e, const std::vector<int>& xs) {
    std::vector<const Operation*> chosen(t_.groups);
    std::vector<int> out = xs;
    int64_t most = 0;
    for (int g = 0; g < t_.groups; ++g) {
      const int64_t choice = e.place < 0 ? 0 : index_[g * p_.places + e.place];
      const Operation& o = *(chosen[g] = &p_.operations[e.operations[choice]]);
      const Value x = t_.values[xs[g]];
      if (o.kind == OperationKind::kZero)
        out[g] = add_zero(g, o.c_out, (x.h - 1) / static_cast<int>(o.stride) + 1,
                          (x.w - 1) / static_cast<int>(o.stride) + 1);
      most = std::max(most, o.kind == OperationKind::kUnits ? o.units : 0);
    }
    std::vector<std::vector<int>> results(t_.groups);
    for (int64_t j = 0; j < most; ++j) {
      const auto source = [&](int g, int64_t i) { return i < 0 ? xs[g] : results[g][i]; };
      for (int g = 0; g < t_.groups; ++g) {
        if (j >= units_of(*chosen[g])) continue;
        const Unit& u = p_.units[chosen[g]->first_unit + j];
        if (!u.is_pool() && u.kind != UnitKind::kSum) solid(source(g, u.input[0]));
        if (u.kind == UnitKind::kJoin) solid(source(g, u.input[1]));
      }
      close_stage();
      uses_.clear();
      for (int g = 0; g < t_.groups; ++g) {
        if (j >= units_of(*chosen[g])) continue;
        const Unit& u = p_.units[chosen[g]->first_unit + j];
        if (joins(u)) {
          const std::vector<int> both{source(g, u.input[0]), source(g, u.input[1])};
          results[g].push_back(u.kind == UnitKind::kSum ? sum(g, both) : concat(g, both));
        } else {
          results[g].push_back(unit(g, u, source(g, u.input[0])));
        }
        out[g] = results[g].back();
      }
      close_stage();
    }
    return out;
  }

  static bool joins(const Unit& u) { return u.kind == UnitKind::kSum || u.kind == UnitKind::kJoin; }
  static int64_t units_of(const Operation& o) { return o.kind == OperationKind::kUnits ? o.units : 0; }

  int unit(int g, const Unit& u, int x) {
    const Value from = t_.values[x];
    TORCH_CHECK(from.channels == u.c_in, "supernet_paths: graph: unit ", &u - p_.units.data(), " reads ", u.c_in,
                " channels, got ", from.channels);
    const int h = (from.h - 1) / u.stride + 1, w = (from.w - 1) / u.stride + 1;
    TORCH_CHECK(u.kind != UnitKind::kPick || (from.h % 2 == 0 && from.w % 2 == 0),
                "supernet_paths: images must have an even height and width at a factorized reduction, got ", from.h,
                " x ", from.w, "; pad the input");
    if (from.zero && u.is_pool()) return add_zero(g, u.c_out, h, w);
    x = solid(x);
    const int y = add_value(g, u.kind == UnitKind::kHead ? u.c_in : u.c_out, h, w);
    Value& out = t_.values[y];
    const Value& in = t_.values[x];
    const bool norm = u.norm >= 0, plain = in.norm < 0 && in.act == Act::kNone && u.before == Act::kNone;
    if (u.kind == UnitKind::kNorm && norm && plain) out.data = in.data;
    out.pooled = u.kind == UnitKind::kHead;
    if (u.is_conv() || norm) out.act = u.after;
    if (norm || (u.is_conv() && u.bias >= 0)) out.norm = norm_use(g, u);
    if (out.norm >= 0) {
      NormUse& use = t_.norms[out.norm];
      use.count += static_cast<double>(t_.images) * h * w;
      use.members.push_back(static_cast<int>(t_.steps.size()));
    }
    push({StepKind::kUnit, &u, g, 0, 0, y}, {x});
    return y;
  }

  // Groups that computed the same unit share their statistics where those are an operation's.
  int norm_use(int g, const Unit& u) {
    const auto key = std::pair(&u, statistics_ == Statistics::kGroup ? g : 0);
    const auto [it, fresh] = uses_.try_emplace(key, static_cast<int>(t_.norms.size()));
    if (fresh) {
      NormUse use;
      use.unit = &u;
      use.channels = u.c_out;
      if (u.norm >= 0 && statistics_ != Statistics::kRunning) {
        use.stats_offset = t_.stats_elements;
        t_.stats_elements += 2 * use.channels;
      }
      t_.norms.push_back(use);
    }
    return it->second;
  }

  int sum(int g, const std::vector<int>& xs) {
    std::vector<int> terms;
    for (int x : xs) {
      const Value &v = t_.values[x], &first = t_.values[xs[0]];
      TORCH_CHECK(v.channels == first.channels && v.h == first.h && v.w == first.w,
                  "supernet_paths: graph: summands must have one shape, got [", first.channels, ", ", first.h, ", ",
                  first.w, "] and [", v.channels, ", ", v.h, ", ", v.w, "]");
      if (!v.zero) terms.push_back(x);
    }
    if (terms.empty()) return xs[0];
    if (terms.size() == 1) return terms[0];
    const Value first = t_.values[xs[0]];
    const int y = add_value(g, first.channels, first.h, first.w);
    push({StepKind::kSum, nullptr, g, 0, 0, y}, terms);
    return y;
  }

  // Zeros among them are in memory by now.
  int concat(int g, const std::vector<int>& xs) {
    if (xs.size() == 1) return xs[0];
    int64_t channels = 0;
    const Value first = t_.values[xs[0]];
    for (int x : xs) {
      const Value& v = t_.values[x];
      TORCH_CHECK(v.h == first.h && v.w == first.w,
                  "supernet_paths: graph: concatenated values must have one size, got ", first.h, " x ", first.w,
                  " and ", v.h, " x ", v.w);
      channels += v.channels;
    }
    std::vector<int> parts;
    for (int x : xs) parts.push_back(solid(x));
    const int y = add_value(g, channels, first.h, first.w);
    push({StepKind::kConcat, nullptr, g, 0, 0, y}, parts);
    return y;
  }

  Tape& t_;
  const Program& p_;
  const int64_t* index_;
  const Statistics statistics_;
  std::map<std::pair<const Unit*, int>, int> uses_;  // of the stage
  std::map<int, int> filled_;
};

Tape::Tape(const Program& program, const int64_t* index, int64_t groups_, int64_t images_, int64_t channels,
           int64_t height, int64_t width, Statistics statistics, bool keep)
    : groups(groups_),
      images(images_),
      slices(static_cast<int>(ceil_div(images_, kSliceImages))),
      output(program.output()) {
  for (int64_t g = 0; g < groups; ++g)
    for (const Entry& e : program.entries) {
      if (e.place < 0) continue;
      const int64_t choice = index[g * program.places + e.place], most = static_cast<int64_t>(e.operations.size()) - 1;
      TORCH_CHECK_INDEX(choice >= 0 && choice <= most, "supernet_paths: index[", g, "][", e.place, "] must be 0 to ",
                        most, ", got ", choice);
    }
  Builder builder(*this, program, index, statistics);
  builder.build(channels, height, width);
  builder.find_alive();
  builder.place(keep);
  for (const NormUse& use : norms)
    TORCH_CHECK_VALUE(use.stats_offset < 0 || use.count > 1,
                      "supernet_paths: batch statistics need more than one value per channel: "
                      "more images in a group, or statistics of all samples that chose an operation");
}

}  // namespace nasfast::supernet
