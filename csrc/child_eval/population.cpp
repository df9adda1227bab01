#include "population.h"

#include "tables.h"

namespace nasfast::child_eval {
namespace {

Template parse_template(const at::Tensor& entries, const at::Tensor& inputs, const at::Tensor& operations,
                        const std::vector<int64_t>& sizes, const std::vector<int64_t>& starts, int64_t macros) {
  constexpr int64_t kFields = 4;
  const int64_t* e = table_data(entries, "entries", 2, kFields);
  const int64_t* in = table_data(inputs, "inputs", 1);
  const int64_t* ops = table_data(operations, "operations", 1);
  Template t;
  t.sizes = sizes;
  t.entries.reserve(entries.size(0));
  int64_t at_input = 0, at_op = 0;
  size_t child = 0;
  const int64_t count = entries.size(0), all_inputs = inputs.numel(), all_operations = operations.numel();
  for (int64_t i = 0; i < count; ++i, e += kFields) {
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
    TORCH_CHECK(at_input + e[2] <= all_inputs && at_op + e[3] <= all_operations, "child_eval: entry ", i,
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

}  // namespace

std::shared_ptr<Population> Population::from_rows(const at::Tensor& primitives, const at::Tensor& macros,
                                                  int64_t in_channels, const at::Tensor& entries,
                                                  const at::Tensor& inputs, const at::Tensor& operations,
                                                  const at::Tensor& sizes, const at::Tensor& rows) {
  const int64_t* size = table_data(sizes, "sizes", 1);
  const int64_t* row = table_data(rows, "rows", 2, sizes.numel());
  TORCH_CHECK(rows.size(0) > 0, "child_eval: rows must hold at least one child, got none");
  auto parsed = parse_primitives(primitives);
  auto known = parse_macros(macros, parsed);
  auto space = parse_template(entries, inputs, operations, {size, size + sizes.numel()}, {0},
                              static_cast<int64_t>(known.size()));
  TORCH_CHECK(!space.entries.empty(), "child_eval: entries must not be empty");
  std::shared_ptr<Population> p(new Population(std::move(parsed), std::move(known), in_channels));
  p->planner_.add_rows(std::move(space), row, rows.size(0));
  p->finish();
  return p;
}

std::shared_ptr<Population> Population::from_graphs(const at::Tensor& primitives, const at::Tensor& macros,
                                                    int64_t in_channels, const at::Tensor& entries,
                                                    const at::Tensor& inputs, const at::Tensor& operations,
                                                    const at::Tensor& starts) {
  const int64_t* start = table_data(starts, "starts", 1);
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
  const auto& outputs = planner_.outputs();
  size_t places = 16;
  while (places < 2 * outputs.size()) places *= 2;
  std::vector<int32_t> table(places, -1);  // of outputs_, by hash of their nodes; at most half full
  std::vector<int32_t> operations;
  for (int32_t node : outputs) {
    size_t at = static_cast<uint32_t>(node) * 0x9e3779b1u & (places - 1);
    while (table[at] >= 0 && outputs_[table[at]] != node) at = (at + 1) & (places - 1);
    if (table[at] < 0) {
      table[at] = static_cast<int32_t>(outputs_.size());
      outputs_.push_back(node);
    }
    index_.push_back(table[at]);
    operations.push_back(planner_.operation_of(node));
  }
  classes_ = check_outputs(planner_.macros(), primitives_, operations);
}

const Plan& Population::plan() {
  const Plan& plan = planner_.plan();
  for (size_t k = 0; k < index_.size(); ++k) outputs_[index_[k]] = plan.outputs[k];
  return plan;
}

std::map<std::string, int64_t> Population::counts() {
  const Plan& plan = this->plan();
  const auto live = live_nodes(plan);
  int64_t executed = 0, nodes = 0;
  for (size_t i = 0; i < live.size(); ++i) {
    nodes += live[i];
    executed += live[i] && plan.nodes[i].kind == NodeKind::kOperation;
  }
  return {{"children", static_cast<int64_t>(index_.size())},
          {"distinct", static_cast<int64_t>(outputs_.size())},
          {"asked", planner_.operations_asked()},
          {"executed", executed},
          {"nodes", nodes}};
}

at::Tensor Population::index() const { return at::tensor(index_, at::kLong); }

std::tuple<at::Tensor, at::Tensor, at::Tensor, int64_t> Population::tables() {
  const auto [nodes, inputs] = node_tables(plan());
  return {nodes, inputs, at::tensor(outputs_, at::kLong), classes_};
}

}  // namespace nasfast::child_eval
