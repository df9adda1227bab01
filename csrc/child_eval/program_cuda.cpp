#include "program_cuda.h"

#include <algorithm>

namespace nasfast::child_eval {
namespace {

class Builder {
 public:
  Builder(const Plan& plan, const std::vector<Primitive>& primitives, int pack, bool calibration)
      : plan_(plan), primitives_(primitives), pack_(pack) {
    out_.calibration = calibration;
    out_.of_node.assign(plan.nodes.size(), {0, 0});
    result_.assign(plan.nodes.size(), -1);
  }

  void add(int32_t node) {
    const Node& n = plan_.nodes[node];
    node_ = node;
    const auto first = static_cast<int32_t>(out_.tasks.size());
    switch (n.kind) {
      case NodeKind::kInput:
        result_[node] = append(TaskKind::kImages, {}, n.channels, n.halvings);
        break;
      case NodeKind::kOperation:
        result_[node] = operation(plan_.macros[n.macro], result_[plan_.inputs_of(n)[0]]);
        break;
      default: {
        std::vector<int32_t> in;
        for (int32_t k = 0; k < n.inputs; ++k) in.push_back(result_[plan_.inputs_of(n)[k]]);
        const auto kind = n.kind == NodeKind::kConcat ? TaskKind::kConcat : TaskKind::kSum;
        result_[node] = append(kind, in, n.channels, n.halvings);
      }
    }
    out_.of_node[node] = {first, static_cast<int32_t>(out_.tasks.size())};
  }

  Program take() { return std::move(out_); }

 private:
  int32_t append(TaskKind kind, const std::vector<int32_t>& inputs, int64_t channels, int halvings) {
    Task t;
    t.kind = kind;
    t.node = node_;
    t.first_input = static_cast<int32_t>(out_.inputs.size());
    t.inputs = static_cast<int32_t>(inputs.size());
    t.channels = static_cast<int32_t>(channels);
    t.halvings = halvings;
    for (int32_t in : inputs) t.level = std::max(t.level, out_.tasks[in].level + 1);
    out_.inputs.insert(out_.inputs.end(), inputs.begin(), inputs.end());
    out_.tasks.push_back(t);
    return static_cast<int32_t>(out_.tasks.size()) - 1;
  }

  // One of a primitive's parts.
  int32_t layer(TaskKind kind, int64_t primitive, int32_t x, int64_t channels, int kernel, int stride, int dilation) {
    const int32_t id = append(kind, {x}, channels, out_.tasks[x].halvings + (stride == 2 ? 1 : 0));
    Task& t = out_.tasks[id];
    t.primitive = static_cast<int32_t>(primitive);
    t.kernel = kernel;
    t.stride = stride;
    t.dilation = dilation;
    return id;
  }

  void normalise(int32_t id, int norm) {
    Task& t = out_.tasks[id];
    t.norm = static_cast<int8_t>(norm);
    t.statistics = out_.statistics;
    out_.statistics += 2 * ceil_div(t.channels, pack_) * pack_;
  }

  int32_t operation(const Macro& macro, int32_t x) {
    std::vector<int32_t> results;
    for (int64_t k = 0; k < macro.primitives; ++k) {
      const int64_t index = macro.first_primitive + k;
      const Primitive& p = primitives_[index];
      const auto source = [&](int i) { return p.input[i] < 0 ? x : results[p.input[i]]; };
      if (p.reads_two())
        results.push_back(append(p.kind == PrimitiveKind::kSum ? TaskKind::kSum : TaskKind::kConcat,
                                 {source(0), source(1)}, p.c_out, out_.tasks[source(0)].halvings));
      else
        results.push_back(primitive(p, index, source(0)));
    }
    return results.back();
  }

  int32_t primitive(const Primitive& p, int64_t index, int32_t x) {
    if (p.kind == PrimitiveKind::kInvertedResidual) return inverted_residual(p, index, x);
    static constexpr TaskKind kKinds[] = {TaskKind::kConv,        TaskKind::kDepthwise,   TaskKind::kConv,
                                          TaskKind::kAveragePool, TaskKind::kMaximumPool, TaskKind::kNorm,
                                          TaskKind::kHead};
    const int32_t id = layer(kKinds[static_cast<int>(p.kind)], index, x, p.c_out, static_cast<int>(p.kernel),
                             static_cast<int>(p.stride), static_cast<int>(p.dilation));
    out_.tasks[id].before = p.act_before;
    out_.tasks[id].after = p.act_after;
    out_.tasks[id].bias = p.has(kHasBias);
    out_.tasks[id].second_pixel = p.has(kSecondPixel);
    if (p.has(kHasNorm)) normalise(id, 0);
    return id;
  }

  int32_t inverted_residual(const Primitive& p, int64_t index, int32_t x) {
    int32_t id = x;
    int next = 0;
    const auto add = [&](TaskKind kind, int64_t channels, int kernel, int stride, Act after) {
      id = layer(kind, index, id, channels, kernel, stride, 1);
      out_.tasks[id].weight = static_cast<int8_t>(next);
      out_.tasks[id].after = after;
      normalise(id, next++);
    };
    if (p.has(kExpand)) add(TaskKind::kConv, p.c_hidden, 1, 1, Act::kRelu6);
    add(TaskKind::kDepthwise, p.c_hidden, static_cast<int>(p.kernel), static_cast<int>(p.stride), Act::kRelu6);
    add(TaskKind::kConv, p.c_out, 1, 1, Act::kNone);
    if (!p.has(kResidual)) return id;
    // The batch's own normalisation is known only when all of the projection is there.
    if (out_.calibration) return append(TaskKind::kSum, {id, x}, p.c_out, out_.tasks[id].halvings);
    out_.tasks[id].residual = x;
    return id;
  }

  const Plan& plan_;
  const std::vector<Primitive>& primitives_;
  const int pack_;
  Program out_;
  std::vector<int32_t> result_;  // task that is a node's value
  int32_t node_ = -1;
};

// f(task) for all tasks whose values a task reads.
template <class F>
void each_read(const Program& program, const Task& t, F&& f) {
  for (int32_t k = 0; k < t.inputs; ++k) f(program.inputs_of(t)[k]);
  if (t.residual >= 0) f(t.residual);
}

// Tasks that some outputs take, and how many operations they are of.
std::vector<uint8_t> tasks_of(const Plan& plan, const Program& program, const int32_t* outputs, size_t count,
                              int64_t& operations) {
  std::vector<uint8_t> node(plan.nodes.size(), 0), wanted(program.tasks.size(), 0);
  for (size_t k = 0; k < count; ++k) node[outputs[k]] = 1;
  for (size_t i = node.size(); i-- > 0;) {
    if (!node[i]) continue;
    const Node& n = plan.nodes[i];
    for (int32_t k = 0; k < n.inputs; ++k) node[plan.inputs_of(n)[k]] = 1;
    operations += n.kind == NodeKind::kOperation;
    for (int32_t t = program.of_node[i].first; t < program.of_node[i].second; ++t) wanted[t] = 1;
  }
  if (!program.calibration) return wanted;
  // Only what leads to a normalisation.
  std::vector<uint8_t> read(program.tasks.size(), 0);
  for (size_t t = wanted.size(); t-- > 0;) {
    wanted[t] = wanted[t] && (read[t] || program.tasks[t].norm >= 0);
    if (wanted[t]) each_read(program, program.tasks[t], [&](int32_t source) { read[source] = 1; });
  }
  return wanted;
}

void divide_range(const Plan& plan, const Program& program, const TaskBytes& bytes, int64_t bound,
                  const int32_t* outputs, size_t count, std::vector<Part>& parts) {
  Part part = make_part(plan, program, bytes, outputs, count);
  if (part.peak_bytes <= bound) {
    parts.push_back(std::move(part));
    return;
  }
  if (count == 1) throw DoesNotFit(part.peak_bytes);
  divide_range(plan, program, bytes, bound, outputs, count / 2, parts);
  divide_range(plan, program, bytes, bound, outputs + count / 2, count - count / 2, parts);
}

}  // namespace

Program make_program(const Plan& plan, const std::vector<Primitive>& primitives, const std::vector<uint8_t>& live,
                     int pack, bool calibration) {
  Builder builder(plan, primitives, pack, calibration);
  for (size_t i = 0; i < live.size(); ++i)
    if (live[i]) builder.add(static_cast<int32_t>(i));
  return builder.take();
}

std::vector<int32_t> ordered_outputs(const Plan& plan) {
  std::vector<int32_t> order = plan.outputs;
  std::sort(order.begin(), order.end());
  return order;
}

Part make_part(const Plan& plan, const Program& program, const TaskBytes& bytes, const int32_t* outputs, size_t count) {
  Part part;
  const auto wanted = tasks_of(plan, program, outputs, count, part.operations);
  std::vector<int32_t> last(program.tasks.size(), -1);  // level of the last reader
  int32_t levels = 0;
  for (size_t i = 0; i < wanted.size(); ++i) {
    if (!wanted[i]) continue;
    const Task& t = program.tasks[i];
    levels = std::max(levels, t.level + 1);
    each_read(program, t, [&](int32_t source) { last[source] = std::max(last[source], t.level); });
  }
  part.levels.resize(levels);
  part.unread.assign(wanted.size(), 0);
  for (size_t i = 0; i < wanted.size(); ++i) {
    if (!wanted[i]) continue;
    const int32_t level = program.tasks[i].level;
    part.unread[i] = last[i] < 0;
    part.levels[level].tasks.push_back(static_cast<int32_t>(i));
    part.levels[std::max(level, last[i])].freed.push_back(static_cast<int32_t>(i));
  }
  const auto value = [&](int32_t t) {
    return part.unread[t] && program.tasks[t].kind == TaskKind::kNorm ? 0 : bytes.value[t];
  };
  int64_t used = 0;
  for (const Level& level : part.levels) {
    int64_t beside = 0;
    for (int32_t t : level.tasks) {
      used += value(t);
      beside += bytes.beside[t];
    }
    part.peak_bytes = std::max(part.peak_bytes, used + beside);
    for (int32_t t : level.freed) used -= value(t);
  }
  return part;
}

std::vector<Part> divide(const Plan& plan, const Program& program, const TaskBytes& bytes, int64_t bound) {
  const auto order = ordered_outputs(plan);
  std::vector<Part> parts;
  divide_range(plan, program, bytes, bound, order.data(), order.size(), parts);
  return parts;
}

}  // namespace nasfast::child_eval
