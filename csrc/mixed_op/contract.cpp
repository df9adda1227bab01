#include "contract.h"

namespace nasfast::mixed_op {

using at::Tensor;
using at::TensorList;

namespace {

void check_sizes(const Graph& graph, const Tensor& x) {
  const int64_t H = x.size(2), W = x.size(3);
  TORCH_CHECK(x.size(1) > 0 && H > 0 && W > 0, "mixed_op: states must have channels, height and width above 0, got ",
              x.sizes());
  int64_t h = -1;
  for (size_t e = 0; e < graph.edges.size(); ++e) {
    const Edge& edge = graph.edges[e];
    if (edge.source >= graph.inputs) continue;
    TORCH_CHECK(h < 0 || h == edge.stride, "mixed_op: graph edges that leave the inputs must have one stride");
    h = edge.stride;
    for (int i : edge.convs)
      TORCH_CHECK(graph.convs[i].front != Front::kTaps || graph.convs[i].taps_h > 0 || (H % 2 == 0 && W % 2 == 0),
                  "mixed_op: states must have an even height and width where a skip_connect has stride 2 (a factorized "
                  "reduction), got ",
                  H, " x ", W, "; pad the input or leave skip_connect out");
  }
}

void check_params(const Graph& graph, TensorList params, const Tensor& x) {
  const int64_t C = x.size(1);
  TORCH_CHECK(static_cast<int64_t>(params.size()) == graph.params, "mixed_op: params must hold ", graph.params,
              " tensors for this graph, got ", params.size());
  const auto expect = [&](int at, std::vector<int64_t> sizes) {
    if (at < 0) return;
    const Tensor& p = params[at];
    TORCH_CHECK(p.sizes() == at::IntArrayRef(sizes), "mixed_op: params[", at, "] must be ", at::IntArrayRef(sizes),
                ", got ", p.sizes());
    TORCH_CHECK(at::isFloatingType(p.scalar_type()), "mixed_op: params[", at, "] must be floating point, got ",
                p.scalar_type());
    TORCH_CHECK(p.device() == x.device(), "mixed_op: params[", at, "] must be on ", x.device(), ", got ", p.device());
  };
  for (const Conv& c : graph.convs) {
    expect(c.depthwise, {C, 1, c.kernel, c.kernel});
    if (c.product2 >= 0) {
      expect(c.product, {C / 2, C, 1, 1});
      expect(c.product2, {C - C / 2, C, 1, 1});
    } else {
      expect(c.product, {C, C, std::max(c.taps_h, 1), std::max(c.taps_w, 1)});
    }
    expect(c.gamma, {C});
    expect(c.beta, {C});
  }
  for (const Pool& p : graph.pools) {
    expect(p.gamma, {C});
    expect(p.beta, {C});
  }
}

}  // namespace

void check_mixed_op(const Graph& graph, TensorList states, const Tensor& weights, TensorList params,
                    const std::optional<Tensor>& stats, Kernels kernels) {
  TORCH_CHECK(static_cast<int>(states.size()) == graph.inputs, "mixed_op: states must hold ", graph.inputs,
              " tensors for this graph, got ", states.size());
  check_states("mixed_op", states, kernels);
  check_sizes(graph, states[0]);
  const Tensor& x = states[0];
  TORCH_CHECK(weights.dim() == 2 && weights.size(0) == static_cast<int64_t>(graph.edges.size()) &&
                  weights.size(1) == graph.candidates,
              "mixed_op: weights must be [", graph.edges.size(), ", ", graph.candidates, "], got ", weights.sizes());
  TORCH_CHECK(at::isFloatingType(weights.scalar_type()), "mixed_op: weights must be floating point, got ",
              weights.scalar_type());
  TORCH_CHECK(weights.device() == x.device(), "mixed_op: weights must be on ", x.device(), ", got ", weights.device());
  check_params(graph, params, x);
  check_stats("mixed_op", stats, graph.norms, x.size(1));
}

void check_relu_conv_bn(const Tensor& x, TensorList weights, TensorList affine, const std::optional<Tensor>& stats,
                        Kernels kernels) {
  check_states("relu_conv_bn", x, kernels);
  TORCH_CHECK(weights.size() == 1 || weights.size() == 2, "relu_conv_bn: weights must hold 1 or 2 tensors, got ",
              weights.size());
  int64_t out = 0;
  for (size_t i = 0; i < weights.size(); ++i) {
    const Tensor& w = weights[i];
    TORCH_CHECK(w.dim() == 4 && w.size(1) == x.size(1) && w.size(2) == 1 && w.size(3) == 1, "relu_conv_bn: weights[", i,
                "] must be [O, ", x.size(1), ", 1, 1], got ", w.sizes());
    TORCH_CHECK(at::isFloatingType(w.scalar_type()) && w.device() == x.device(), "relu_conv_bn: weights[", i,
                "] must be floating point on ", x.device(), ", got ", w.scalar_type(), " on ", w.device());
    out += w.size(0);
  }
  TORCH_CHECK(weights.size() == 1 || (x.size(2) % 2 == 0 && x.size(3) % 2 == 0),
              "relu_conv_bn: x must have an even height and width for a factorized reduction, got ", x.size(2), " x ",
              x.size(3));
  TORCH_CHECK(affine.empty() || affine.size() == 2, "relu_conv_bn: affine must hold 0 or 2 tensors, got ",
              affine.size());
  for (const Tensor& a : affine) {
    TORCH_CHECK(a.sizes() == at::IntArrayRef({out}), "relu_conv_bn: affine must be [", out, "], got ", a.sizes());
    TORCH_CHECK(at::isFloatingType(a.scalar_type()) && a.device() == x.device(),
                "relu_conv_bn: affine must be floating point on ", x.device(), ", got ", a.scalar_type(), " on ",
                a.device());
  }
  TORCH_CHECK(x.size(1) > 0 && out > 0 && x.size(2) > 0 && x.size(3) > 0,
              "relu_conv_bn: x must have channels, height and width above 0, got ", x.sizes());
  check_stats("relu_conv_bn", stats, 1, out);
}

void check_running_stats(const Tensor& stats, TensorList running_mean, TensorList running_var, TensorList batches,
                         int64_t count) {
  TORCH_CHECK(stats.dim() == 3 && stats.size(1) == 2, "update_running_stats_: stats must be [norms, 2, C], got ",
              stats.sizes());
  const int64_t norms = stats.size(0), C = stats.size(2);
  TORCH_CHECK(static_cast<int64_t>(running_mean.size()) == norms && static_cast<int64_t>(running_var.size()) == norms &&
                  static_cast<int64_t>(batches.size()) == norms,
              "update_running_stats_: running_mean, running_var and batches must hold ", norms, " tensors each");
  TORCH_CHECK(count > 1, "update_running_stats_: count must be above 1 value a channel, got ", count);
  const auto check_vector = [&](const Tensor& running) {
    TORCH_CHECK(running.numel() == C && running.is_contiguous(),
                "update_running_stats_: running statistics must be contiguous [", C, "], got ", running.sizes());
  };
  for (int64_t k = 0; k < norms; ++k) {
    check_vector(running_mean[k]);
    check_vector(running_var[k]);
    TORCH_CHECK(batches[k].scalar_type() == at::kLong && batches[k].numel() == 1,
                "update_running_stats_: batches must be int64 scalars, got ", batches[k].scalar_type());
  }
}

void check_shuffle(const Tensor& mixed, const Tensor& passed, int64_t groups) {
  TORCH_CHECK(mixed.dim() == 4 && passed.dim() == 4, "shuffle_channels: mixed and passed must be [N, C, H, W], got ",
              mixed.dim(), " and ", passed.dim(), " dimensions");
  TORCH_CHECK(mixed.size(0) == passed.size(0) && mixed.size(2) == passed.size(2) && mixed.size(3) == passed.size(3),
              "shuffle_channels: mixed and passed must differ in channels only, got ", mixed.sizes(), " and ",
              passed.sizes());
  TORCH_CHECK(at::isFloatingType(mixed.scalar_type()), "shuffle_channels: mixed must be floating point, got ",
              mixed.scalar_type());
  TORCH_CHECK(mixed.scalar_type() == passed.scalar_type() && mixed.device() == passed.device(),
              "shuffle_channels: mixed and passed must have one dtype and device, got ", mixed.scalar_type(), " on ",
              mixed.device(), " and ", passed.scalar_type(), " on ", passed.device());
  TORCH_CHECK(groups > 0 && (mixed.size(1) + passed.size(1)) % groups == 0,
              "shuffle_channels: groups must divide the channels, got ", groups, " for ",
              mixed.size(1) + passed.size(1));
}

}  // namespace nasfast::mixed_op
