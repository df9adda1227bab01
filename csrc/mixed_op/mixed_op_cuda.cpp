// The mixed op's entry on CUDA: contract, dtype, empty batches.
#include "../aten/dispatch_cuda.h"
#include "contract.h"
#include "mixed_op_backward_device_cuda.h"

namespace nasfast::mixed_op {
namespace {

using at::Tensor;
using at::TensorList;
using MixedOpForward = std::tuple<Tensor, Tensor, std::vector<Tensor>>;
using MixedOpBackward = std::tuple<std::vector<Tensor>, Tensor, std::vector<Tensor>>;

DeviceGraphCall graph_call(const Graph& graph, const DeviceCall& device, TensorList states, const Tensor& weights,
                           TensorList params, double eps) {
  std::vector<Tensor> nhwc;
  for (const Tensor& s : states) nhwc.push_back(channels_last(s));
  return {graph, device, std::move(nhwc), weights.to(at::kFloat).contiguous(), params.vec(), eps};
}

MixedOpForward mixed_op_forward_cuda(TensorList states, const Tensor& weights, TensorList params,
                                     const std::optional<Tensor>& stats, at::IntArrayRef code, double eps,
                                     bool recompute) {
  const Graph graph = parse_graph(code.vec());
  check_mixed_op(graph, states, weights, params, stats, Kernels::kCuda);
  const Tensor& x = states[0];
  return dispatch_device("mixed_op", x.scalar_type(), [&]<class S>() -> MixedOpForward {
    const DeviceCall device(x);
    Tensor used = stats.has_value() ? stats->to(at::kFloat, false, true).contiguous()
                                    : device.empty({graph.norms, 2, x.size(1)}, at::kFloat);
    if (x.size(0) == 0) {
      const int64_t stride = graph.input_stride();
      std::vector<Tensor> saved;
      for (size_t e = 0; e < graph.edges.size() && !recompute; ++e) saved.push_back(device.empty({0}, x.scalar_type()));
      return {device.empty_channels_last(0, graph.nodes * x.size(1), ceil_div(x.size(2), stride),
                                         ceil_div(x.size(3), stride), x.scalar_type()),
              device.zeros({graph.norms, 2, x.size(1)}, at::kFloat), saved};
    }
    Tensor out;
    std::vector<Tensor> saved;
    DeviceGraph<S>(graph_call(graph, device, states, weights, params, eps))
        .forward(used, !stats.has_value(), out, saved);
    if (recompute) saved.clear();
    return {out, used, saved};
  });
}

MixedOpBackward empty_backward(const DeviceCall& device, TensorList states, const Tensor& weights, TensorList params,
                               const c10::List<bool>& want_states, bool want_params) {
  std::vector<Tensor> grad_states, grad_params;
  for (size_t s = 0; s < states.size(); ++s)
    grad_states.push_back(want_states[s] ? at::empty_like(states[s], at::MemoryFormat::ChannelsLast)
                                         : at::empty({0}, states[s].options()));
  for (size_t p = 0; want_params && p < params.size(); ++p)
    grad_params.push_back(device.zeros(params[p].sizes(), params[p].scalar_type()));
  return {grad_states, device.zeros(weights.sizes(), weights.scalar_type()), grad_params};
}

MixedOpBackward mixed_op_backward_cuda(const Tensor& grad_out, const Tensor& out, TensorList states,
                                       const Tensor& weights, TensorList params, const Tensor& stats, TensorList saved,
                                       at::IntArrayRef code, double eps, bool batch_stats,
                                       const c10::List<bool>& want_states, bool want_params) {
  const Graph graph = parse_graph(code.vec());
  const auto dtype = states[0].scalar_type();
  return dispatch_device("mixed_op", dtype, [&]<class S>() -> MixedOpBackward {
    const DeviceCall device(states[0]);
    if (states[0].size(0) == 0) return empty_backward(device, states, weights, params, want_states, want_params);
    const DeviceGraphCall call = graph_call(graph, device, states, weights, params, eps);
    const DeviceBackwardCall back{channels_last(grad_out.to(dtype)), batch_stats, want_states.vec(), want_params};
    DeviceBackwardResult r = DeviceGraphBackward<S>(call, back)
                                 .run(out.dim() == 4 ? channels_last(out) : out, stats.contiguous(), saved.vec());
    std::vector<Tensor> grad_states;
    for (size_t s = 0; s < states.size(); ++s)
      grad_states.push_back(want_states[s] ? r.states[s] : at::empty({0}, states[s].options()));
    for (size_t p = 0; p < r.params.size(); ++p) r.params[p] = r.params[p].to(params[p].scalar_type());
    return {grad_states, r.weights.to(weights.scalar_type()), r.params};
  });
}

}  // namespace

NASFAST_DEVICE_IMPL(mixed_op, m) {
  m.impl("_mixed_op_forward", mixed_op_forward_cuda);
  m.impl("_mixed_op_backward", mixed_op_backward_cuda);
}

}  // namespace nasfast::mixed_op
