#include "supernet.h"

#include <ATen/TensorSubclassLikeUtils.h>
#include <ATen/autocast_mode.h>
#include <torch/csrc/autograd/custom_function.h>
#include <torch/library.h>

#include "../aten/find_op.h"
#include "contract.h"
#include "executor_cpu.h"

namespace nasfast::supernet {
namespace {

using at::Tensor;
using at::TensorList;
using FrontResult = std::tuple<Tensor, Tensor>;
using ForwardResult = ForwardTensors;
using BackwardResult = BackwardTensors;

ForwardResult forward(const Tensor& images, const Tensor& index, TensorList params, TensorList running,
                      at::IntArrayRef graph, at::ArrayRef<double> eps, bool per_operation, bool keep) {
  const Program program(graph);
  check_paths(program, images, index, params, running, eps, nasfast::Kernels::kCpu);
  if (images.size(0) == 0) return empty_forward(program, images);
  const Tape tape = make_tape(program, index, images.sizes(), statistics_of(running, per_operation), keep);
  const Call call{program, tape, images, params.vec(), running.vec(), eps.vec()};
  const auto pack = [](auto r) -> ForwardResult { return {r.out, r.kept, r.stats}; };
  return images.scalar_type() == at::kDouble ? pack(forward_cpu<double>(call)) : pack(forward_cpu<float>(call));
}

BackwardResult backward(const Tensor& grad_out, const Tensor& images, const Tensor& index, TensorList params,
                        TensorList running, const Tensor& kept, const Tensor& stats, at::IntArrayRef graph,
                        at::ArrayRef<double> eps, bool per_operation, bool want_images,
                        const c10::List<bool>& want_params) {
  const Program program(graph);
  const Wanted wanted = make_wanted(want_images, want_params, params);
  if (images.size(0) == 0) return pack_grads(empty_backward(images, params, wanted), images);
  const Tape tape = make_tape(program, index, images.sizes(), statistics_of(running, per_operation), true);
  const Call call{program, tape, images, params.vec(), running.vec(), eps.vec()};
  const Tensor g =
      tape.output.logits ? grad_out.to(images.scalar_type()).contiguous() : grad_out.to(images.scalar_type());
  return pack_grads(images.scalar_type() == at::kDouble ? backward_cpu<double>(call, g, kept, stats, wanted)
                                                        : backward_cpu<float>(call, g, kept, stats, wanted),
                    images);
}

ForwardResult call_forward(const Tensor& images, const Tensor& index, TensorList params, TensorList running,
                           at::IntArrayRef graph, at::ArrayRef<double> eps, bool per_operation, bool keep) {
  static const auto op = find_op<ForwardResult(const Tensor&, const Tensor&, TensorList, TensorList, at::IntArrayRef,
                                               at::ArrayRef<double>, bool, bool)>("nasfast::_supernet_paths_forward");
  return op.call(images, index, params, running, graph, eps, per_operation, keep);
}

// Parameters that the output depends on: those of the others have no gradient at all, as in a loop over the groups.
void drop_unused(const Tensor& images, const Tensor& index, at::IntArrayRef graph, Statistics statistics,
                 std::vector<uint8_t>& wanted) {
  if (at::isTensorSubclassLike(index) || index.is_meta() || images.size(0) == 0) return;  // traced: not known
  const Program program(graph);
  const Tape tape = make_tape(program, index, images.sizes(), statistics, false);
  const auto alive = tape.alive_units(program);
  std::vector<uint8_t> used(wanted.size(), 0);
  for (size_t i = 0; i < alive.size(); ++i) {
    const Unit& u = program.units[i];
    for (int64_t p : {u.weight, u.bias, u.gamma, u.beta})
      if (alive[i] && p >= 0) used[p] = 1;
  }
  for (size_t p = 0; p < wanted.size(); ++p) wanted[p] &= used[p];
}

// Below autograd, where nothing is kept for a backward.
FrontResult plain(const Tensor& images, const Tensor& index, TensorList params, TensorList running,
                  at::IntArrayRef graph, at::ArrayRef<double> eps, bool per_operation) {
  auto [out, kept, stats] = call_forward(images, index, params, running, graph, eps, per_operation, false);
  return {out, stats};
}

class PathsFunction : public torch::autograd::Function<PathsFunction> {
 public:
  using Ctx = torch::autograd::AutogradContext;
  using List = torch::autograd::variable_list;

  static List forward(Ctx* ctx, const Tensor& images, const Tensor& index, TensorList params, TensorList running,
                      at::IntArrayRef graph, at::ArrayRef<double> eps, bool per_operation) {
    at::AutoDispatchBelowADInplaceOrView guard;
    auto [out, kept, stats] = call_forward(images, index, params, running, graph, eps, per_operation, true);
    List all{images, index, kept, stats};
    all.insert(all.end(), params.begin(), params.end());
    all.insert(all.end(), running.begin(), running.end());
    ctx->save_for_backward(all);
    ctx->saved_data["params"] = static_cast<int64_t>(params.size());
    ctx->saved_data["graph"] = graph.vec();
    ctx->saved_data["eps"] = eps.vec();
    ctx->saved_data["per_operation"] = per_operation;
    ctx->mark_non_differentiable({stats});
    return {out, stats};
  }

  static List backward(Ctx* ctx, List grads) {
    TORCH_CHECK(!at::GradMode::is_enabled(),
                "supernet_paths: cannot be differentiated twice (create_graph=True); the shared network that is called "
                "by itself can");
    static const auto op =
        find_op<BackwardResult(const Tensor&, const Tensor&, const Tensor&, TensorList, TensorList, const Tensor&,
                               const Tensor&, at::IntArrayRef, at::ArrayRef<double>, bool, bool,
                               const c10::List<bool>&)>("nasfast::_supernet_paths_backward");
    const List all = ctx->get_saved_variables();
    const int64_t P = ctx->saved_data["params"].toInt();
    const TensorList params = TensorList(all).slice(4, P), running = TensorList(all).slice(4 + P);
    const auto graph = ctx->saved_data["graph"].toIntVector();
    const bool want_images = ctx->needs_input_grad(0);
    std::vector<uint8_t> want_params;
    for (int64_t p = 0; p < P; ++p) want_params.push_back(ctx->needs_input_grad(2 + p));
    drop_unused(all[0], all[1], graph, statistics_of(running, ctx->saved_data["per_operation"].toBool()), want_params);
    c10::List<bool> flags;
    for (uint8_t want : want_params) flags.push_back(want != 0);
    auto [images, found] =
        op.call(grads[0], all[0], all[1], params, running, all[2], all[3], graph,
                ctx->saved_data["eps"].toDoubleVector(), ctx->saved_data["per_operation"].toBool(), want_images, flags);
    List out{want_images ? images : Tensor(), Tensor()};
    for (int64_t p = 0; p < P; ++p) out.push_back(want_params[p] ? found[p] : Tensor());
    out.resize(2 + P + running.size() + 3);  // running, graph, eps, per_operation
    return out;
  }
};

FrontResult autograd(const Tensor& images, const Tensor& index, TensorList params, TensorList running,
                     at::IntArrayRef graph, at::ArrayRef<double> eps, bool per_operation) {
  if (!at::GradMode::is_enabled()) {
    at::AutoDispatchBelowADInplaceOrView guard;
    return plain(images, index, params, running, graph, eps, per_operation);
  }
  auto r = PathsFunction::apply(images, index, params, running, graph, eps, per_operation);
  return {r[0], r[1]};
}

// Computed in the parameters' float32 also where autocast is on.
FrontResult autocast(const Tensor& images, const Tensor& index, TensorList params, TensorList running,
                     at::IntArrayRef graph, at::ArrayRef<double> eps, bool per_operation) {
  c10::impl::ExcludeDispatchKeyGuard guard(c10::autocast_dispatch_keyset);
  static const auto op = find_op<FrontResult(const Tensor&, const Tensor&, TensorList, TensorList, at::IntArrayRef,
                                             at::ArrayRef<double>, bool)>("nasfast::supernet_paths");
  return op.call(at::autocast::cached_cast(at::kFloat, images, images.device().type()), index, params, running, graph,
                 eps, per_operation);
}

void update_running(const Tensor& stats, const Tensor& index, TensorList mean, TensorList var, TensorList batches,
                    at::IntArrayRef sizes, at::IntArrayRef graph, bool per_operation, at::ArrayRef<double> momentum) {
  const Program program(graph);
  check_update(program, index, mean, var, batches, sizes, momentum);
  if (sizes[0] == 0) return;
  const Tape tape = make_tape(program, index, sizes, statistics_of({}, per_operation), false);
  check_stats(tape, stats);
  for (const NormUse& use : tape.norms) {
    if (use.stats_offset < 0) continue;
    const int64_t norm = use.unit->norm;
    const double* batch = stats.const_data_ptr<double>() + use.stats_offset;
    const int64_t seen = ++*batches[norm].data_ptr<int64_t>();
    const double share = momentum[norm] < 0 ? 1.0 / static_cast<double>(seen) : momentum[norm];
    const auto blend = [&](const Tensor& t, const double* values, double factor) {
      AT_DISPATCH_FLOATING_TYPES_AND2(at::kBFloat16, at::kHalf, t.scalar_type(), "supernet_update_running_", [&] {
        scalar_t* r = t.data_ptr<scalar_t>();
        for (int64_t c = 0; c < use.channels; ++c) {
          scalar_t& at = r[c * t.stride(0)];
          at = static_cast<scalar_t>((1 - share) * static_cast<double>(at) + share * factor * values[c]);
        }
      });
    };
    blend(mean[norm], batch, 1.0);
    blend(var[norm], batch + use.channels, use.count / (use.count - 1));
  }
}

}  // namespace

std::tuple<int64_t, int64_t, bool> supernet_output(at::IntArrayRef graph) {
  const auto shape = Program(graph).output();
  return {shape.channels, shape.halvings, shape.logits};
}

TORCH_LIBRARY_FRAGMENT(nasfast, m) {
  m.def(
      "supernet_paths(Tensor images, Tensor index, Tensor[] params, Tensor[] running, int[] graph, float[] eps, "
      "bool per_operation) -> (Tensor, Tensor)");
  m.def(
      "_supernet_paths_forward(Tensor images, Tensor index, Tensor[] params, Tensor[] running, int[] graph, "
      "float[] eps, bool per_operation, bool keep) -> (Tensor, Tensor, Tensor)");
  m.def(
      "_supernet_paths_backward(Tensor grad_out, Tensor images, Tensor index, Tensor[] params, Tensor[] running, "
      "Tensor kept, Tensor stats, int[] graph, float[] eps, bool per_operation, bool want_images, bool[] want_params) "
      "-> (Tensor, Tensor[])");
  m.def(
      "supernet_update_running_(Tensor stats, Tensor index, Tensor(a!)[] mean, Tensor(b!)[] var, Tensor(c!)[] batches, "
      "SymInt[] sizes, int[] graph, bool per_operation, float[] momentum) -> ()");
}

TORCH_LIBRARY_IMPL(nasfast, CPU, m) {
  m.impl("_supernet_paths_forward", forward);
  m.impl("_supernet_paths_backward", backward);
  m.impl("supernet_update_running_", update_running);
}
TORCH_LIBRARY_IMPL(nasfast, AutogradCPU, m) { m.impl("supernet_paths", autograd); }
TORCH_LIBRARY_IMPL(nasfast, AutogradCUDA, m) { m.impl("supernet_paths", autograd); }
TORCH_LIBRARY_IMPL(nasfast, AutogradMeta, m) { m.impl("supernet_paths", autograd); }
TORCH_LIBRARY_IMPL(nasfast, CompositeExplicitAutograd, m) { m.impl("supernet_paths", plain); }
TORCH_LIBRARY_IMPL(nasfast, AutocastCPU, m) { m.impl("supernet_paths", autocast); }
TORCH_LIBRARY_IMPL(nasfast, AutocastCUDA, m) { m.impl("supernet_paths", autocast); }

}  // namespace nasfast::supernet
