#include "tables.h"

namespace nasfast::child_eval {
namespace {

void check_primitive(const Primitive& p, int64_t index) {
  const auto want = [&](bool ok, const char* what) {
    TORCH_CHECK(ok, "child_eval: primitive ", index, " must have ", what);
  };
  want(p.c_in > 0 && p.c_out > 0 && p.c_hidden >= 0, "channels above 0");
  want(p.stride == 1 || p.stride == 2, "stride 1 or 2");
  if (p.kind == PrimitiveKind::kConv)
    want(p.kernel % 2 == 1 && p.kernel <= 7 && p.dilation >= 1, "kernel 1, 3, 5 or 7");
  if (p.kind == PrimitiveKind::kDepthwise || p.kind == PrimitiveKind::kInvertedResidual)
    want(p.kernel == 3 || p.kernel == 5 || p.kernel == 7, "a depthwise kernel of 3, 5 or 7");
  if (p.is_pool()) want(p.kernel == 2 || p.kernel == 3, "a window of 2 or 3");
  if (p.kind == PrimitiveKind::kInvertedResidual)
    want(p.has(kExpand) || p.c_hidden == p.c_in, "as many hidden as input channels without expansion");
  if (p.has(kResidual)) want(p.c_in == p.c_out && p.stride == 1, "equal shapes for its residual");
  if (p.has(kSecondPixel))
    want(p.kind == PrimitiveKind::kConv && p.kernel == 1 && p.stride == 2,
         "kernel 1 and stride 2 to read second pixels");
  if (p.kind == PrimitiveKind::kJoin)
    want(p.c_out == 2 * p.c_in && p.stride == 1, "the channels of both values it joins");
}

[[noreturn]] void fail_node(int64_t node, const std::string& what) {
  TORCH_CHECK(false, "child_eval: node ", node, " of the plan must ", what);
  std::abort();
}

void check_node(const Plan& plan, int64_t index) {
  const Node& n = plan.nodes[index];
  const int32_t* in = plan.inputs_of(n);
  const auto want = [&](bool ok, const char* what) {
    if (!ok) fail_node(index, what);
  };
  want(n.channels > 0 && n.halvings < 32, "have channels above 0 and at most 31 halvings");
  for (int32_t k = 0; k < n.inputs; ++k) want(in[k] >= 0 && in[k] < index, "read earlier nodes");
  switch (n.kind) {
    case NodeKind::kInput:
    case NodeKind::kZero:
      want(n.inputs == 0 && n.macro == -1, "read nothing");
      want(n.kind == NodeKind::kZero || n.halvings == 0, "have the size of the image");
      return;
    case NodeKind::kOperation: {
      want(n.macro >= 0 && n.macro < static_cast<int64_t>(plan.macros.size()) && n.inputs == 1, "be a known operation");
      const Macro& m = plan.macros[n.macro];
      want(m.kind == MacroKind::kOperation && m.c_out == n.channels && m.c_in == plan.nodes[in[0]].channels,
           "be an operation of its channels");
      want(plan.nodes[in[0]].halvings + m.halvings == n.halvings, "be of the size that its operation gives");
      return;
    }
    default: {
      want(n.inputs > 0 && n.macro == -1, "read something");
      int64_t channels = 0;
      for (int32_t k = 0; k < n.inputs; ++k) {
        const Node& x = plan.nodes[in[k]];
        want(x.halvings == n.halvings, "read values of its size");
        want(n.kind == NodeKind::kConcat || x.channels == n.channels, "add values of its channels");
        channels += x.channels;
      }
      want(n.kind == NodeKind::kSum || channels == n.channels, "have the channels of all it joins");
    }
  }
}

}  // namespace

std::vector<Primitive> parse_primitives(const at::Tensor& table) {
  TORCH_CHECK(table.dim() == 2 && table.size(1) == Primitive::kFields && table.scalar_type() == at::kLong &&
                  table.is_contiguous(),
              "child_eval: primitives must be a contiguous int64 [P, ", Primitive::kFields, "], got ", table.sizes());
  const int64_t* f = table.const_data_ptr<int64_t>();
  const int64_t count = table.size(0);
  std::vector<Primitive> out;
  out.reserve(count);
  for (int64_t i = 0; i < count; ++i, f += Primitive::kFields) {
    TORCH_CHECK((f[0] >= 0 && f[0] <= static_cast<int64_t>(PrimitiveKind::kSum)) ||
                    f[0] == static_cast<int64_t>(PrimitiveKind::kJoin),
                "child_eval: primitive ", i, " must be of kind 0 to 7 or 9, got ", f[0]);
    out.push_back({static_cast<PrimitiveKind>(f[0]),
                   f[1],
                   f[2],
                   f[3],
                   static_cast<Act>(f[4]),
                   static_cast<Act>(f[5]),
                   f[6],
                   f[7],
                   f[8],
                   f[9],
                   f[10],
                   {f[11], f[12]}});
    check_primitive(out.back(), i);
  }
  return out;
}

std::vector<Macro> parse_macros(const at::Tensor& table, const std::vector<Primitive>& primitives) {
  TORCH_CHECK(
      table.dim() == 2 && table.size(1) == Macro::kFields && table.scalar_type() == at::kLong && table.is_contiguous(),
      "child_eval: operations must be a contiguous int64 [M, ", Macro::kFields, "], got ", table.sizes());
  const int64_t* f = table.const_data_ptr<int64_t>();
  const int64_t count = table.size(0);
  std::vector<Macro> out;
  out.reserve(count);
  for (int64_t i = 0; i < count; ++i, f += Macro::kFields) {
    const Macro m{static_cast<MacroKind>(f[0]), f[1], f[2], f[3], f[4], f[5], f[6] != 0, f[7]};
    TORCH_CHECK(m.first_primitive >= 0 && m.primitives >= 0 &&
                    m.first_primitive + m.primitives <= static_cast<int64_t>(primitives.size()) &&
                    (m.kind != MacroKind::kOperation || m.primitives > 0),
                "child_eval: operation ", i, " must be made of known primitives");
    for (int64_t k = 0; k < m.primitives; ++k)
      for (int64_t in : primitives[m.first_primitive + k].input)
        TORCH_CHECK(in >= -1 && in < k, "child_eval: primitives of operation ", i, " must read earlier results");
    out.push_back(m);
  }
  return out;
}

const int64_t* table_data(const at::Tensor& t, const char* name, int64_t dims, int64_t columns) {
  TORCH_CHECK(t.dim() == dims && t.scalar_type() == at::kLong && t.is_contiguous() && t.device().is_cpu() &&
                  (columns < 0 || t.size(1) == columns),
              "child_eval: ", name, " must be a contiguous int64 table of ", dims, " dimensions on the CPU, got ",
              t.scalar_type(), " of shape ", t.sizes());
  return t.const_data_ptr<int64_t>();
}

std::tuple<at::Tensor, at::Tensor> node_tables(const Plan& plan) {
  at::Tensor nodes = at::empty({static_cast<int64_t>(plan.nodes.size()), kNodeFields}, at::kLong);
  int64_t* f = nodes.data_ptr<int64_t>();
  at::Tensor inputs = at::empty({static_cast<int64_t>(plan.inputs.size())}, at::kLong);
  int64_t* to = inputs.data_ptr<int64_t>();
  for (const Node& n : plan.nodes) {
    const int64_t row[kNodeFields] = {static_cast<int64_t>(n.kind), n.halvings, n.channels, n.macro, n.inputs};
    f = std::copy(row, row + kNodeFields, f);
    to = std::copy(plan.inputs_of(n), plan.inputs_of(n) + n.inputs, to);
  }
  return {nodes, inputs};
}

Plan parse_plan(std::vector<Macro> macros, const at::Tensor& nodes, const at::Tensor& inputs,
                const at::Tensor& outputs) {
  const int64_t* f = table_data(nodes, "nodes", 2, kNodeFields);
  const int64_t* in = table_data(inputs, "inputs", 1);
  const int64_t* out = table_data(outputs, "outputs", 1);
  Plan plan{std::move(macros), {}, {in, in + inputs.numel()}, {}};
  plan.nodes.reserve(nodes.size(0));
  int64_t at = 0;
  for (int64_t i = 0; i < nodes.size(0); ++i, f += kNodeFields) {
    if (f[0] < 0 || f[0] > static_cast<int64_t>(NodeKind::kZero)) fail_node(i, "be of kind 0 to 4");
    if (f[1] < 0 || f[2] > INT32_MAX || f[3] > INT32_MAX || f[4] < 0 || at + f[4] > inputs.numel())
      fail_node(i, "have its inputs in their table");
    plan.nodes.push_back({static_cast<NodeKind>(f[0]), static_cast<uint8_t>(std::min<int64_t>(f[1], 255)), false,
                          static_cast<int32_t>(f[2]), static_cast<int32_t>(f[3]), static_cast<int32_t>(at),
                          static_cast<int32_t>(f[4]), -1});
    check_node(plan, i);
    at += f[4];
  }
  TORCH_CHECK(outputs.numel() > 0, "child_eval: outputs must name at least one node, got none");
  for (int64_t k = 0; k < outputs.numel(); ++k) {
    TORCH_CHECK(out[k] >= 0 && out[k] < nodes.size(0), "child_eval: outputs[", k, "] must be 0 to ", nodes.size(0) - 1,
                ", got ", out[k]);
    plan.outputs.push_back(static_cast<int32_t>(out[k]));
  }
  return plan;
}

namespace {

std::vector<uint8_t> find_classifiers(const std::vector<Macro>& macros, const std::vector<Primitive>& primitives) {
  std::vector<uint8_t> found;
  for (const Macro& m : macros)
    found.push_back(m.primitives > 0 && primitives[m.first_primitive + m.primitives - 1].kind == PrimitiveKind::kHead);
  return found;
}

void check_nothing_reads_classifiers(const Request& r) {
  const auto classifier = find_classifiers(r.plan.macros, r.primitives);
  for (size_t i = 0; i < r.live.size(); ++i) {
    const Node& n = r.plan.nodes[i];
    for (int32_t k = 0; r.live[i] && k < n.inputs; ++k) {
      const int32_t macro = r.plan.nodes[r.plan.inputs_of(n)[k]].macro;
      TORCH_CHECK(macro < 0 || !classifier[macro], "child_eval: a classifier must be the output of its child");
    }
  }
}

}  // namespace

int64_t check_outputs(const std::vector<Macro>& macros, const std::vector<Primitive>& primitives,
                      const std::vector<int32_t>& operations) {
  const auto classifier = find_classifiers(macros, primitives);
  int64_t classes = 0;
  for (size_t k = 0; k < operations.size(); ++k) {
    const int32_t macro = operations[k];
    TORCH_CHECK(macro >= 0 && classifier[macro], "child_eval: the output of child ", k, " must be a classifier");
    const int64_t channels = macros[macro].c_out;
    TORCH_CHECK(classes == 0 || classes == channels, "child_eval: children must have one number of classes, got ",
                classes, " and ", channels);
    classes = channels;
  }
  return classes;
}

std::vector<uint8_t> Request::primitives_used() const {
  std::vector<uint8_t> used(primitives.size(), 0);
  for (size_t i = 0; i < live.size(); ++i) {
    const Node& n = plan.nodes[i];
    if (!live[i] || n.macro < 0) continue;
    const Macro& m = plan.macros[n.macro];
    for (int64_t k = 0; k < m.primitives; ++k) used[m.first_primitive + k] = 1;
  }
  return used;
}

Request parse_request(const at::Tensor& primitives, const at::Tensor& macros, const at::Tensor& nodes,
                      const at::Tensor& inputs, const at::Tensor& outputs, int64_t classes, int64_t memory_bound) {
  TORCH_CHECK(memory_bound > 0, "child_eval: memory_bound must be above 0 bytes, got ", memory_bound);
  Request r;
  r.primitives = parse_primitives(primitives);
  r.plan = parse_plan(parse_macros(macros, r.primitives), nodes, inputs, outputs);
  r.live = live_nodes(r.plan);
  std::vector<int32_t> operations;
  for (int32_t node : r.plan.outputs) operations.push_back(r.plan.nodes[node].macro);
  r.classes = check_outputs(r.plan.macros, r.primitives, operations);
  check_nothing_reads_classifiers(r);
  TORCH_CHECK(r.classes == classes, "child_eval: classes must be the ", r.classes, " of the classifiers, got ",
              classes);
  r.place.assign(r.plan.nodes.size(), -1);
  for (size_t k = 0; k < r.plan.outputs.size(); ++k) {
    int32_t& place = r.place[r.plan.outputs[k]];
    TORCH_CHECK(place < 0, "child_eval: outputs must differ, got node ", r.plan.outputs[k], " twice");
    place = static_cast<int32_t>(k);
  }
  for (size_t i = 0; i < r.live.size(); ++i) {
    const Node& n = r.plan.nodes[i];
    if (!r.live[i] || n.kind != NodeKind::kInput) continue;
    TORCH_CHECK(r.in_channels == 0 || r.in_channels == n.channels, "child_eval: all children must read one image");
    r.in_channels = n.channels;
  }
  return r;
}

void check_images(const at::Tensor& x, const char* name, int64_t channels, at::Device device,
                  at::ArrayRef<at::ScalarType> dtypes, const char* wanted) {
  TORCH_CHECK(
      x.dim() == 4 && (channels == 0 || x.size(1) == channels) && x.size(0) > 0 && x.size(2) > 0 && x.size(3) > 0,
      "child_eval: ", name, " must be [N, ", channels, ", H, W] and not empty, got ", x.sizes());
  const bool known = std::find(dtypes.begin(), dtypes.end(), x.scalar_type()) != dtypes.end();
  TORCH_CHECK(known && x.device() == device && x.layout() == at::kStrided, "child_eval: ", name, " must be a dense ",
              wanted, " tensor on ", device, ", got ", x.scalar_type(), " on ", x.device());
}

std::vector<NamedTensor> name_tensors(const std::vector<Primitive>& primitives, const std::vector<uint8_t>& used,
                                      at::TensorList tensors, at::ArrayRef<double> eps, at::Device device) {
  std::vector<NamedTensor> out;
  size_t norm = 0;
  for (size_t i = 0; i < primitives.size(); ++i) {
    const Primitive& p = primitives[i];
    const auto norms = p.norms();
    TORCH_CHECK(norm + norms.size() <= eps.size(), "child_eval: eps must hold one number for each normalisation, got ",
                eps.size());
    int64_t at = p.first_tensor;
    const auto next = [&](TensorRole role, size_t number, size_t part, double e, at::IntArrayRef shape) {
      TORCH_CHECK(at >= 0 && at < static_cast<int64_t>(tensors.size()), "child_eval: primitive ", i, " lacks tensor ",
                  at);
      const at::Tensor& t = tensors[at++];
      TORCH_CHECK(t.sizes() == shape && t.scalar_type() == at::kFloat && t.device() == device,
                  "child_eval: weights must be float32 on ", device, ", tensor ", at - 1, " of shape ", shape, ", got ",
                  t.scalar_type(), " on ", t.device(), " of shape ", t.sizes());
      out.push_back({i, role, number, part, e, t.contiguous()});
    };
    if (used[i]) {
      const ExpectedTensors expected = expected_tensors(p);
      for (size_t k = 0; k < expected.weights.size(); ++k) next(TensorRole::kWeight, k, 0, 0, expected.weights[k]);
      if (expected.bias) next(TensorRole::kBias, 0, 0, 0, {expected.bias});
      for (size_t k = 0; k < norms.size(); ++k)
        for (size_t part = 0; part < 4; ++part) next(TensorRole::kNorm, k, part, eps[norm + k], {norms[k]});
    }
    norm += norms.size();
  }
  return out;
}

at::Tensor Usage::tensor() const {
  return at::tensor({peak_bytes, statistics_bytes, computed_again, threads, slice_images, parts}, at::kLong);
}

void fail_too_small(const char* phase, int64_t needed, int64_t bound) {
  TORCH_CHECK_VALUE(false, "child_eval: memory_bound is too small for one child: its ", phase, " needs at least ",
                    needed, " bytes, got ", bound);
  std::abort();
}

}  // namespace nasfast::child_eval
