#include "mixed_op.h"

#include <ATen/Dispatch.h>
#include <ATen/autocast_mode.h>
#include <torch/csrc/autograd/custom_function.h>
#include <torch/library.h>

#include "../aten/check.h"
#include "../aten/find_op.h"
#include "contract.h"
#include "mixed_op_backward_cpu.h"

namespace nasfast::mixed_op {
namespace {

using at::Tensor;
using at::TensorList;
using MixedOpForward = std::tuple<Tensor, Tensor, std::vector<Tensor>>;
using MixedOpBackward = std::tuple<std::vector<Tensor>, Tensor, std::vector<Tensor>>;

Graph graph_from(at::IntArrayRef code) { return parse_graph(code.vec()); }

// Placeholders: an op may not return one tensor twice.
std::vector<Tensor> nothing(size_t count, const Tensor& like) {
  std::vector<Tensor> out;
  for (size_t i = 0; i < count; ++i) out.push_back(at::empty({0}, like.options()));
  return out;
}

template <class S>
GraphCall graph_call(const Graph& graph, TensorList states, const Tensor& weights, TensorList params, double eps) {
  std::vector<Tensor> nhwc;
  for (const Tensor& s : states) nhwc.push_back(channels_last(s));
  return {graph, std::move(nhwc), weights.to(scalar_type_of<acc_t<S>>()).contiguous(), params.vec(), eps};
}

MixedOpForward mixed_op_forward_cpu(TensorList states, const Tensor& weights, TensorList params,
                                    const std::optional<Tensor>& stats, at::IntArrayRef code, double eps,
                                    bool recompute) {
  const Graph graph = graph_from(code);
  check_mixed_op(graph, states, weights, params, stats, Kernels::kCpu);
  return dispatch_storage("mixed_op", states[0].scalar_type(), [&]<class S>() -> MixedOpForward {
    const GraphCall call = graph_call<S>(graph, states, weights, params, eps);
    const auto dtype = call.weights.scalar_type();
    Tensor used = stats.has_value() ? stats->to(dtype) : Tensor(), out;
    std::vector<Tensor> saved;
    if (states[0].size(0) == 0) {
      const Shape shape = shape_of(graph, states);
      return {at::empty({0, graph.nodes * shape.C, shape.h, shape.w}, states[0].options()),
              at::zeros({graph.norms, 2, shape.C}, call.weights.options()),
              nothing(recompute ? 0 : graph.edges.size(), states[0])};
    }
    MixedGraphCpu<S>(call, false).forward(used, !stats.has_value(), out, saved);
    if (recompute) saved.clear();
    return {out, stats.has_value() ? used.clone() : used, saved};
  });
}

MixedOpBackward mixed_op_backward_cpu(const Tensor& grad_out, const Tensor& out, TensorList states,
                                      const Tensor& weights, TensorList params, const Tensor& stats, TensorList saved,
                                      at::IntArrayRef code, double eps, bool batch_stats,
                                      const c10::List<bool>& want_states, bool want_params) {
  const Graph graph = graph_from(code);
  return dispatch_storage("mixed_op", states[0].scalar_type(), [&]<class S>() -> MixedOpBackward {
    const GraphCall call = graph_call<S>(graph, states, weights, params, eps);
    std::vector<Tensor> grad_states = nothing(states.size(), states[0]);
    if (states[0].size(0) == 0) {
      for (size_t s = 0; s < states.size(); ++s)
        if (want_states[s]) grad_states[s] = at::empty_like(states[s], at::MemoryFormat::ChannelsLast);
      std::vector<Tensor> grad_params;
      for (size_t p = 0; want_params && p < params.size(); ++p)
        grad_params.push_back(at::zeros(params[p].sizes(), params[p].options()));
      return {grad_states, at::zeros(weights.sizes(), weights.options()), grad_params};
    }
    const BackwardCall back{channels_last(grad_out.to(states[0].scalar_type())), batch_stats, want_states.vec(),
                            want_params};
    MixedGraphBackwardCpu<S> backward(call, back);
    BackwardResult r = backward.run(out.dim() == 4 ? channels_last(out) : out, stats, saved.vec());
    for (size_t s = 0; s < states.size(); ++s)
      if (want_states[s]) grad_states[s] = r.states[s];
    return {grad_states, r.weights.to(weights.scalar_type()), r.params};
  });
}

const auto& mixed_op_forward_op() {
  static const auto op = find_op<MixedOpForward(TensorList, const Tensor&, TensorList, const std::optional<Tensor>&,
                                                at::IntArrayRef, double, bool)>("nasfast::_mixed_op_forward");
  return op;
}

const auto& mixed_op_backward_op() {
  static const auto op =
      find_op<MixedOpBackward(const Tensor&, const Tensor&, TensorList, const Tensor&, TensorList, const Tensor&,
                              TensorList, at::IntArrayRef, double, bool, const c10::List<bool>&, bool)>(
          "nasfast::_mixed_op_backward");
  return op;
}

const auto& registered_mixed_op() {
  static const auto op =
      find_op<std::tuple<Tensor, Tensor>(TensorList, const Tensor&, TensorList, const std::optional<Tensor>&,
                                         at::IntArrayRef, double, bool)>("nasfast::mixed_op");
  return op;
}

// Whether an edge leaves a node: backward then needs the nodes themselves.
bool reads_nodes(at::IntArrayRef code) {
  const Graph graph = graph_from(code);
  for (const Edge& edge : graph.edges)
    if (edge.source >= graph.inputs) return true;
  return false;
}

class MixedOpFunction : public torch::autograd::Function<MixedOpFunction> {
 public:
  using Ctx = torch::autograd::AutogradContext;
  using List = torch::autograd::variable_list;

  static List forward(Ctx* ctx, TensorList states, const Tensor& weights, TensorList params,
                      const std::optional<Tensor>& stats, at::IntArrayRef graph, double eps, bool recompute) {
    at::AutoDispatchBelowADInplaceOrView guard;
    auto [out, used, saved] = mixed_op_forward_op().call(states, weights, params, stats, graph, eps, recompute);
    List keep(states.begin(), states.end());
    keep.push_back(weights);
    keep.insert(keep.end(), params.begin(), params.end());
    keep.push_back(reads_nodes(graph) ? out : at::empty({0}, out.options()));
    keep.push_back(used);
    keep.insert(keep.end(), saved.begin(), saved.end());
    ctx->save_for_backward(keep);
    ctx->saved_data["graph"] = graph.vec();
    ctx->saved_data["states"] = static_cast<int64_t>(states.size());
    ctx->saved_data["params"] = static_cast<int64_t>(params.size());
    ctx->saved_data["eps"] = eps;
    ctx->saved_data["batch_stats"] = !stats.has_value();
    ctx->mark_non_differentiable({used});
    return {out, used};
  }

  static List backward(Ctx* ctx, List grads) {
    TORCH_CHECK(!at::GradMode::is_enabled(), "mixed_op: ", kNoSecondDerivative);
    const int64_t S = ctx->saved_data["states"].toInt(), P = ctx->saved_data["params"].toInt();
    const bool batch_stats = ctx->saved_data["batch_stats"].toBool();
    const List all = ctx->get_saved_variables();
    const TensorList kept(all);
    c10::List<bool> want_states;
    for (int64_t s = 0; s < S; ++s) want_states.push_back(ctx->needs_input_grad(s));
    bool want_params = false;
    for (int64_t p = 0; p < P; ++p) want_params = want_params || ctx->needs_input_grad(S + 1 + p);
    auto [states, weights, params] =
        mixed_op_backward_op().call(grads[0], kept[S + 1 + P], kept.slice(0, S), kept[S], kept.slice(S + 1, P),
                                    kept[S + P + 2], kept.slice(S + P + 3), ctx->saved_data["graph"].toIntVector(),
                                    ctx->saved_data["eps"].toDouble(), batch_stats, want_states, want_params);
    List out;
    for (int64_t s = 0; s < S; ++s) out.push_back(want_states[s] ? states[s] : Tensor());
    out.push_back(weights);
    for (int64_t p = 0; p < P; ++p) out.push_back(want_params ? params[p] : Tensor());
    // stats, graph, eps, recompute
    for (int i = 0; i < 4; ++i) out.emplace_back();
    return out;
  }
};

std::tuple<Tensor, Tensor> mixed_op_autograd(TensorList states, const Tensor& weights, TensorList params,
                                             const std::optional<Tensor>& stats, at::IntArrayRef graph, double eps,
                                             bool recompute) {
  auto r = MixedOpFunction::apply(states, weights, params, stats, graph, eps, recompute);
  return {r[0], r[1]};
}

// Below autograd, where nothing is kept for a backward.
std::tuple<Tensor, Tensor> mixed_op_plain(TensorList states, const Tensor& weights, TensorList params,
                                          const std::optional<Tensor>& stats, at::IntArrayRef graph, double eps, bool) {
  auto [out, used, saved] = mixed_op_forward_op().call(states, weights, params, stats, graph, eps, /*recompute=*/true);
  return {out, used};
}

std::tuple<Tensor, Tensor> mixed_op_autocast(TensorList states, const Tensor& weights, TensorList params,
                                             const std::optional<Tensor>& stats, at::IntArrayRef graph, double eps,
                                             bool recompute) {
  c10::impl::ExcludeDispatchKeyGuard guard(c10::autocast_dispatch_keyset);
  const auto device = states[0].device().type();
  std::vector<Tensor> cast;
  for (const Tensor& s : states)
    cast.push_back(at::autocast::cached_cast(at::autocast::get_autocast_dtype(device), s, device));
  return registered_mixed_op().call(cast, weights, params, stats, graph, eps, recompute);
}

}  // namespace

void update_running_stats(const Tensor& stats, TensorList running_mean, TensorList running_var, TensorList batches,
                          double momentum, int64_t count) {
  check_running_stats(stats, running_mean, running_var, batches, count);
  const Tensor plain = stats.to(at::kDouble).contiguous();
  const double unbiased = momentum * static_cast<double>(count) / static_cast<double>(count - 1);
  const int64_t norms = stats.size(0), C = stats.size(2);
  // Hundreds of short vectors: a dispatch for each would cost more than the sums.
  const auto blend = [&](const Tensor& running, const double* batch, double factor) {
    AT_DISPATCH_FLOATING_TYPES_AND2(at::kBFloat16, at::kHalf, running.scalar_type(), "update_running_stats_", [&] {
      scalar_t* r = running.data_ptr<scalar_t>();
      for (int64_t c = 0; c < C; ++c)
        r[c] = static_cast<scalar_t>((1 - momentum) * static_cast<double>(r[c]) + factor * batch[c]);
    });
  };
  for (int64_t k = 0; k < norms; ++k) {
    const double* batch = plain.data_ptr<double>() + k * 2 * C;
    blend(running_mean[k], batch, momentum);
    blend(running_var[k], batch + C, unbiased);
    ++*batches[k].data_ptr<int64_t>();
  }
}

std::vector<int64_t> mixed_op_saved_elements(at::IntArrayRef graph, int64_t channels, int64_t height, int64_t width,
                                             bool cuda) {
  const Graph g = graph_from(graph);
  if (cuda) return saved_elements(g, channels, height, width);
  const int64_t stride = g.input_stride();
  const Shape shape{1,
                    channels,
                    height,
                    width,
                    ceil_div(height, stride),
                    ceil_div(width, stride),
                    blocks_of(channels),
                    padded_channels(channels)};
  return Layout(g, shape).edge_elements;
}

int64_t mixed_op_norm_count(at::IntArrayRef graph) { return graph_from(graph).norms; }

TORCH_LIBRARY_FRAGMENT(nasfast, m) {
  m.def(
      "mixed_op(Tensor[] states, Tensor weights, Tensor[] params, Tensor? stats, int[] graph, float eps, "
      "bool recompute) -> (Tensor, Tensor)");
  m.def(
      "_mixed_op_forward(Tensor[] states, Tensor weights, Tensor[] params, Tensor? stats, int[] graph, float eps, "
      "bool recompute) -> (Tensor, Tensor, Tensor[])");
  m.def(
      "_mixed_op_backward(Tensor grad_out, Tensor out, Tensor[] states, Tensor weights, Tensor[] params, Tensor stats, "
      "Tensor[] saved, int[] graph, float eps, bool batch_stats, bool[] want_states, bool want_params) -> "
      "(Tensor[], Tensor, Tensor[])");
  m.def(
      "update_running_stats_(Tensor stats, Tensor(a!)[] running_mean, Tensor(b!)[] running_var, Tensor(c!)[] batches, "
      "float momentum, SymInt count) -> ()");
}

TORCH_LIBRARY_IMPL(nasfast, CPU, m) {
  m.impl("_mixed_op_forward", mixed_op_forward_cpu);
  m.impl("_mixed_op_backward", mixed_op_backward_cpu);
  m.impl("update_running_stats_", update_running_stats);
}

TORCH_LIBRARY_IMPL(nasfast, AutogradCPU, m) { m.impl("mixed_op", mixed_op_autograd); }
TORCH_LIBRARY_IMPL(nasfast, AutogradCUDA, m) { m.impl("mixed_op", mixed_op_autograd); }
TORCH_LIBRARY_IMPL(nasfast, AutogradMeta, m) { m.impl("mixed_op", mixed_op_autograd); }
TORCH_LIBRARY_IMPL(nasfast, CompositeExplicitAutograd, m) { m.impl("mixed_op", mixed_op_plain); }
TORCH_LIBRARY_IMPL(nasfast, AutocastCPU, m) { m.impl("mixed_op", mixed_op_autocast); }
TORCH_LIBRARY_IMPL(nasfast, AutocastCUDA, m) { m.impl("mixed_op", mixed_op_autocast); }

}  // namespace nasfast::mixed_op
