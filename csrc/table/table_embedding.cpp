// Piecewise-linear and category embeddings of a table's rows and the first linear layer, in one op.
//
// table_embedding
//   weights, bins, fractions, scales, rows   see Call in contract.h
//   increments, lookups                      rows of the weights of each feature, those of increments first
//   returns  [G, B, M, D]: out[g, b, m] = sum_f scales[g, m, f] * v(g, row b, f), v being, for a bin i below the
//            feature's increments, the sum of those before it and fraction * increment i; else row `bin` alone
#include <ATen/autocast_mode.h>
#include <torch/csrc/autograd/custom_function.h>
#include <torch/library.h>
#include <array>

#include "../aten/find_op.h"
#include "embedding_cpu.h"

namespace nasfast::table {
namespace {

using at::Tensor;
using Rows = std::optional<Tensor>;
using Grads = std::tuple<Tensor, Tensor>;

Tensor table_forward(const Tensor& weights, const Tensor& bins, const Tensor& fractions, const Tensor& scales,
                     const Rows& rows, at::IntArrayRef increments, at::IntArrayRef lookups) {
  const Call call = checked_call(weights, bins, fractions, scales, rows, increments, lookups);
  return weights.scalar_type() == at::kDouble ? forward_cpu<double>(call) : forward_cpu<float>(call);
}

Grads table_backward(const Tensor& grad, const Tensor& weights, const Tensor& bins, const Tensor& fractions,
                     const Tensor& scales, const Rows& rows, at::IntArrayRef increments, at::IntArrayRef lookups,
                     bool want_weights, bool want_scales) {
  const Call call = checked_call(weights, bins, fractions, scales, rows, increments, lookups);
  const std::array<int64_t, 4> sizes{call.groups(), call.batch(), call.members(), call.width()};
  const at::IntArrayRef expected = sizes;
  TORCH_CHECK(grad.sizes() == expected, "table_embedding: grad must be ", expected, ", got ", grad.sizes());
  const Tensor g = grad.to(weights.scalar_type()).contiguous();
  return weights.scalar_type() == at::kDouble ? backward_cpu<double>(call, g, want_weights, want_scales)
                                              : backward_cpu<float>(call, g, want_weights, want_scales);
}

using Signature = Tensor(const Tensor&, const Tensor&, const Tensor&, const Tensor&, const Rows&, at::IntArrayRef,
                         at::IntArrayRef);

// Below autograd.
Tensor table_plain(const Tensor& weights, const Tensor& bins, const Tensor& fractions, const Tensor& scales,
                   const Rows& rows, at::IntArrayRef increments, at::IntArrayRef lookups) {
  static const auto op = find_op<Signature>("nasfast::_table_embedding_forward");
  return op.call(weights, bins, fractions, scales, rows, increments, lookups);
}

class TableFunction : public torch::autograd::Function<TableFunction> {
 public:
  using Ctx = torch::autograd::AutogradContext;
  using List = torch::autograd::variable_list;

  static Tensor forward(Ctx* ctx, const Tensor& weights, const Tensor& bins, const Tensor& fractions,
                        const Tensor& scales, const Rows& rows, at::IntArrayRef increments, at::IntArrayRef lookups) {
    at::AutoDispatchBelowADInplaceOrView guard;
    List saved{weights, bins, fractions, scales};
    if (rows) saved.push_back(*rows);
    ctx->save_for_backward(saved);
    ctx->saved_data["increments"] = increments.vec();
    ctx->saved_data["lookups"] = lookups.vec();
    return table_plain(weights, bins, fractions, scales, rows, increments, lookups);
  }

  static List backward(Ctx* ctx, List grads) {
    TORCH_CHECK(!at::GradMode::is_enabled(),
                "table_embedding: cannot be differentiated twice (create_graph=True); its twin in plain PyTorch, "
                "nasfast.kernels.reference_table, can");
    static const auto op =
        find_op<Grads(const Tensor&, const Tensor&, const Tensor&, const Tensor&, const Tensor&, const Rows&,
                      at::IntArrayRef, at::IntArrayRef, bool, bool)>("nasfast::_table_embedding_backward");
    const List all = ctx->get_saved_variables();
    const bool want_weights = ctx->needs_input_grad(0), want_scales = ctx->needs_input_grad(3);
    auto [weights, scales] =
        op.call(grads[0], all[0], all[1], all[2], all[3], all.size() > 4 ? Rows(all[4]) : std::nullopt,
                ctx->saved_data["increments"].toIntVector(), ctx->saved_data["lookups"].toIntVector(), want_weights,
                want_scales);
    List out(7);
    if (want_weights) out[0] = weights;
    if (want_scales) out[3] = scales;
    return out;
  }
};

Tensor table_autograd(const Tensor& weights, const Tensor& bins, const Tensor& fractions, const Tensor& scales,
                      const Rows& rows, at::IntArrayRef increments, at::IntArrayRef lookups) {
  TORCH_CHECK(!fractions.requires_grad(), "table_embedding: fractions have no gradient, and may not require one");
  return TableFunction::apply(weights, bins, fractions, scales, rows, increments, lookups);
}

// Computed in float32 also where autocast is on.
Tensor table_autocast(const Tensor& weights, const Tensor& bins, const Tensor& fractions, const Tensor& scales,
                      const Rows& rows, at::IntArrayRef increments, at::IntArrayRef lookups) {
  c10::impl::ExcludeDispatchKeyGuard guard(c10::autocast_dispatch_keyset);
  const auto cast = [](const Tensor& t) { return at::autocast::cached_cast(at::kFloat, t, t.device().type()); };
  static const auto op = find_op<Signature>("nasfast::table_embedding");
  return op.call(cast(weights), bins, fractions, cast(scales), rows, increments, lookups);
}

}  // namespace

TORCH_LIBRARY_FRAGMENT(nasfast, m) {
  m.def(
      "table_embedding(Tensor weights, Tensor bins, Tensor fractions, Tensor scales, Tensor? rows, int[] increments, "
      "int[] lookups) -> Tensor");
  m.def(
      "_table_embedding_forward(Tensor weights, Tensor bins, Tensor fractions, Tensor scales, Tensor? rows, "
      "int[] increments, int[] lookups) -> Tensor");
  m.def(
      "_table_embedding_backward(Tensor grad, Tensor weights, Tensor bins, Tensor fractions, Tensor scales, "
      "Tensor? rows, int[] increments, int[] lookups, bool want_weights, bool want_scales) -> (Tensor, Tensor)");
}

TORCH_LIBRARY_IMPL(nasfast, CPU, m) {
  m.impl("_table_embedding_forward", table_forward);
  m.impl("_table_embedding_backward", table_backward);
}
TORCH_LIBRARY_IMPL(nasfast, AutogradCPU, m) { m.impl("table_embedding", table_autograd); }
TORCH_LIBRARY_IMPL(nasfast, AutogradMeta, m) { m.impl("table_embedding", table_autograd); }
TORCH_LIBRARY_IMPL(nasfast, CompositeExplicitAutograd, m) { m.impl("table_embedding", table_plain); }
TORCH_LIBRARY_IMPL(nasfast, AutocastCPU, m) { m.impl("table_embedding", table_autocast); }

}  // namespace nasfast::table
