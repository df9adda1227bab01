#include "child_eval.h"

#include <ATen/Parallel.h>

#include "executor_cpu.h"
#include "weight_bank.h"

namespace nasfast::child_eval {
namespace {

const int64_t* table(const at::Tensor& t, const char* name, int64_t dims, int64_t columns = -1) {
  TORCH_CHECK(t.dim() == dims && t.scalar_type() == at::kLong && t.is_contiguous() && t.device().is_cpu() &&
                  (columns < 0 || t.size(1) == columns),
              "child_eval: ", name, " must be a contiguous int64 table of ", dims, " dimensions on the CPU, got ",
              t.scalar_type(), " of shape ", t.sizes());
  return t.const_data_ptr<int64_t>();
}

Template parse_template(const at::Tensor& entries, const at::Tensor& inputs, const at::Tensor& operations,
                        const std::vector<int64_t>& sizes, const std::vector<int64_t>& starts, int64_t macros) {
  constexpr int64_t kFields = 4;
  const int64_t* e = table(entries, "entries", 2, kFields);
  const int64_t* in = table(inputs, "inputs", 1);
  const int64_t* ops = table(operations, "operations", 1);
  Template t;
  t.sizes = sizes;
  int64_t at_input = 0, at_op = 0;
  size_t child = 0;
  for (int64_t i = 0; i < entries.size(0); ++i, e += kFields) {
    while (child + 2 < starts.size() && i >= starts[child + 1]) ++child;
    const int64_t base = starts[child];
    TORCH_CHECK(e[0] >= 0 && e[0] <= static_cast<int64_t>(NodeKind::kConcat), "child_eval: entry ", i,
                " must be of kind 0 to 3, got ", e[0]);
    const auto kind = static_cast<NodeKind>(e[0]);
    TORCH_CHECK(e[1] >= -1 && e[1] < static_cast<int64_t>(sizes.size()), "child_eval: entry ", i,
                " must follow one of ", sizes.size(), " decisions, got ", e[1]);
    const bool right_inputs = kind == NodeKind::kInput       ? e[2] == 0
                              : kind == NodeKind::kOperation ? e[2] == 1
                                                             : e[2] > 0;
    const int64_t choices = kind != NodeKind::kOperation ? 0 : e[1] < 0 ? 1 : sizes[e[1]];
    TORCH_CHECK(right_inputs && e[3] == choices, "child_eval: entry ", i, " must have inputs and ", choices,
                " operations, got ", e[2], " and ", e[3]);
    TORCH_CHECK(at_input + e[2] <= inputs.numel() && at_op + e[3] <= operations.numel(), "child_eval: entry ", i,
                " reaches beyond the tables of inputs and operations");
    for (int64_t k = 0; k < e[2]; ++k)
      TORCH_CHECK(in[at_input + k] >= 0 && in[at_input + k] < i - base, "child_eval: entry ", i - base,
                  " must read earlier entries, got ", in[at_input + k]);
    for (int64_t k = 0; k < e[3]; ++k)
      TORCH_CHECK(ops[at_op + k] >= 0 && ops[at_op + k] < macros, "child_eval: entry ", i, " must be one of ", macros,
                  " operations, got ", ops[at_op + k]);
    t.entries.push_back({kind, static_cast<int32_t>(e[1]), static_cast<int32_t>(at_input), static_cast<int32_t>(e[2]),
                         static_cast<int32_t>(at_op)});
    at_input += e[2];
    at_op += e[3];
  }
  t.inputs.assign(in, in + inputs.numel());
  t.macros.assign(ops, ops + operations.numel());
  return t;
}

Images view(const at::Tensor& x, const char* name, int64_t channels) {
  TORCH_CHECK(x.dim() == 4 && x.size(1) == channels && x.size(0) > 0 && x.size(2) > 0 && x.size(3) > 0,
              "child_eval: ", name, " must be [N, ", channels, ", H, W] and not empty, got ", x.sizes());
  TORCH_CHECK(x.scalar_type() == at::kFloat && x.device().is_cpu() && x.layout() == at::kStrided, "child_eval: ", name,
              " must be a dense float32 tensor on the CPU, got ", x.scalar_type(), " on ", x.device());
  return {x.const_data_ptr<float>(),
          x.size(0),
          x.size(1),
          x.size(2),
          x.size(3),
          {x.stride(0), x.stride(1), x.stride(2), x.stride(3)}};
}

}  // namespace

std::shared_ptr<Population> Population::from_rows(const at::Tensor& primitives, const at::Tensor& macros,
                                                  int64_t in_channels, const at::Tensor& entries,
                                                  const at::Tensor& inputs, const at::Tensor& operations,
                                                  const at::Tensor& sizes, const at::Tensor& rows) {
  const int64_t* size = table(sizes, "sizes", 1);
  const int64_t* row = table(rows, "rows", 2, sizes.numel());
  TORCH_CHECK(rows.size(0) > 0, "child_eval: rows must hold at least one child, got none");
  auto parsed = parse_primitives(primitives);
  auto known = parse_macros(macros, parsed);
  const auto space = parse_template(entries, inputs, operations, {size, size + sizes.numel()}, {0},
                                    static_cast<int64_t>(known.size()));
  TORCH_CHECK(!space.entries.empty(), "child_eval: entries must not be empty");
  std::shared_ptr<Population> p(new Population(std::move(parsed), std::move(known), in_channels));
  p->planner_.add_rows(space, row, rows.size(0));
  p->finish();
  return p;
}

std::shared_ptr<Population> Population::from_graphs(const at::Tensor& primitives, const at::Tensor& macros,
                                                    int64_t in_channels, const at::Tensor& entries,
                                                    const at::Tensor& inputs, const at::Tensor& operations,
                                                    const at::Tensor& starts) {
  const int64_t* start = table(starts, "starts", 1);
  const std::vector<int64_t> list(start, start + starts.numel());
  TORCH_CHECK(list.size() > 1, "child_eval: starts must hold at least one child, got none");
  TORCH_CHECK(list.front() == 0 && list.back() == entries.size(0) &&
                  std::adjacent_find(list.begin(), list.end(), std::greater_equal<>()) == list.end(),
              "child_eval: starts must rise from 0 to the number of entries");
  auto parsed = parse_primitives(primitives);
  auto known = parse_macros(macros, parsed);
  const auto graphs = parse_template(entries, inputs, operations, {}, list, static_cast<int64_t>(known.size()));
  std::shared_ptr<Population> p(new Population(std::move(parsed), std::move(known), in_channels));
  p->planner_.add_graphs(graphs, list);
  p->finish();
  return p;
}

void Population::finish() {
  live_ = live_nodes(planner_);
  place_.assign(planner_.nodes().size(), -1);
  for (size_t k = 0; k < planner_.outputs().size(); ++k) {
    const int32_t node = planner_.outputs()[k];
    if (place_[node] < 0) {
      const Node& n = planner_.nodes()[node];
      const Macro* m = n.macro < 0 ? nullptr : &planner_.macros()[n.macro];
      TORCH_CHECK(m && primitives_[m->first_primitive + m->primitives - 1].kind == PrimitiveKind::kHead,
                  "child_eval: the output of child ", k, " must be a classifier");
      TORCH_CHECK(classes_ == 0 || classes_ == n.channels, "child_eval: children must have one number of classes, got ",
                  classes_, " and ", n.channels);
      classes_ = n.channels;
      place_[node] = static_cast<int32_t>(distinct_++);
    }
    index_.push_back(place_[node]);
  }
  for (size_t i = 0; i < live_.size(); ++i) {
    const Node& n = planner_.nodes()[i];
    const int64_t end =
        n.macro < 0 ? 0 : planner_.macros()[n.macro].first_primitive + planner_.macros()[n.macro].primitives;
    TORCH_CHECK(!live_[i] || n.macro < 0 || primitives_[end - 1].kind != PrimitiveKind::kHead || place_[i] >= 0,
                "child_eval: a classifier must be the output of its child");
  }
}

std::map<std::string, int64_t> Population::counts() const {
  int64_t executed = 0, nodes = 0;
  for (size_t i = 0; i < live_.size(); ++i) {
    nodes += live_[i];
    executed += live_[i] && planner_.nodes()[i].kind == NodeKind::kOperation;
  }
  return {{"children", static_cast<int64_t>(index_.size())},
          {"distinct", distinct_},
          {"asked", planner_.operations_asked()},
          {"executed", executed},
          {"nodes", nodes}};
}

at::Tensor Population::index() const {
  at::Tensor out = at::empty({static_cast<int64_t>(index_.size())}, at::kLong);
  std::copy(index_.begin(), index_.end(), out.data_ptr<int64_t>());
  return out;
}

std::vector<uint8_t> Population::primitives_used() const {
  std::vector<uint8_t> used(primitives_.size(), 0);
  for (size_t i = 0; i < live_.size(); ++i) {
    const Node& n = planner_.nodes()[i];
    if (!live_[i] || n.macro < 0) continue;
    const Macro& m = planner_.macros()[n.macro];
    for (int64_t k = 0; k < m.primitives; ++k) used[m.first_primitive + k] = 1;
  }
  return used;
}

std::tuple<at::Tensor, std::map<std::string, int64_t>> Population::evaluate(
    const at::Tensor& images, at::TensorList tensors, const std::vector<double>& eps,
    const std::optional<at::Tensor>& calibration, int64_t memory_bound) const {
  const Images x = view(images, "images", in_channels_);
  TORCH_CHECK(memory_bound > 0, "child_eval: memory_bound must be above 0 bytes, got ", memory_bound);
  const WeightBank bank(primitives_, primitives_used(), tensors, eps);
  const PackedWeights& weights = bank.packed();
  const Work work{planner_, primitives_, live_};
  const int threads = at::get_num_threads();
  at::Tensor logits = at::empty({distinct_, x.count, classes_}, at::kFloat);
  NodeStatistics statistics;
  Report found, before;
  const char* phase = "evaluation";
  try {
    if (calibration) {
      phase = "calibration";
      before =
          calibrate(work, weights, view(*calibration, "calibration", in_channels_), memory_bound, threads, statistics);
      phase = "evaluation";
    }
    found = child_eval::evaluate(work, weights, x, calibration ? &statistics : nullptr, place_, classes_, memory_bound,
                                 threads, logits.data_ptr<float>());
  } catch (const DoesNotFit& e) {
    TORCH_CHECK_VALUE(false, "child_eval: memory_bound is too small for one child: its ", phase, " needs at least ",
                      e.needed, " bytes, got ", memory_bound);
  }
  return {logits,
          {{"peak_bytes", std::max(found.peak_bytes, before.peak_bytes)},
           {"statistics_bytes", static_cast<int64_t>(statistics.values.size() * sizeof(float))},
           {"computed_again", found.computed_again + before.computed_again},
           {"threads", found.threads},
           {"slice_images", found.slice_images}}};
}

}  // namespace nasfast::child_eval
