#include "contract.h"

#include "../core/types.h"

namespace nasfast::supernet {
namespace {

void check_index(const Program& program, const at::Tensor& index, const char* op) {
  TORCH_CHECK(index.dim() == 2 && index.size(1) == program.places && index.scalar_type() == at::kLong &&
                  index.device().is_cpu(),
              op, ": index must be int64 [K, ", program.places, "] on the CPU, got ", index.scalar_type(), " ",
              index.sizes(), " on ", index.device());
}

// A parameter holds at least what the unit uses: the first channels, the middle of the kernel.
void check_weight(const Unit& u, int64_t number, const at::Tensor& w) {
  const bool linear = u.kind == UnitKind::kHead;
  const int64_t in = u.kind == UnitKind::kDepthwise ? 1 : u.c_in;
  const bool shape = w.dim() == (linear ? 2 : 4) && w.size(0) >= u.c_out && w.size(1) >= in;
  const bool kernel =
      linear || (shape && w.size(2) == w.size(3) && w.size(2) >= u.kernel && (w.size(2) - u.kernel) % 2 == 0);
  TORCH_CHECK(shape && kernel, "supernet_paths: params[", number, "] must be at least [", u.c_out, ", ", in,
              linear ? "" : ", k, k", "], the kernel k being ", u.kernel, " or larger by an even number, got ",
              w.sizes());
}

void check_vector(const at::Tensor& t, int64_t channels, const at::Tensor& images, const char* name, int64_t number) {
  TORCH_CHECK(t.dim() == 1 && t.size(0) >= channels, "supernet_paths: ", name, "[", number, "] must be at least [",
              channels, "], got ", t.sizes());
  TORCH_CHECK(t.scalar_type() == images.scalar_type() && t.device() == images.device(), "supernet_paths: ", name, "[",
              number, "] must be ", images.scalar_type(), " on ", images.device(), ", as the images, got ",
              t.scalar_type(), " on ", t.device());
}

}  // namespace

void check_paths(const Program& program, const at::Tensor& images, const at::Tensor& index, at::TensorList params,
                 at::TensorList running, at::ArrayRef<double> eps, nasfast::Kernels kernels) {
  TORCH_CHECK(images.dim() == 4 && images.size(1) > 0 && images.size(2) > 0 && images.size(3) > 0,
              "supernet_paths: images must be [N, C, H, W] with C, H and W above 0, got ", images.sizes());
  const bool on_cpu = kernels == nasfast::Kernels::kCpu;
  TORCH_CHECK((images.scalar_type() == at::kFloat || (on_cpu && images.scalar_type() == at::kDouble)) &&
                  images.layout() == at::kStrided,
              "supernet_paths: images must be a dense ",
              on_cpu ? "float32 or float64 tensor on the CPU" : "float32 tensor on CUDA", ", got ",
              images.scalar_type(), " on ", images.device(),
              on_cpu ? "" : "; float64 is computed on the CPU only, 16-bit types on neither");
  check_index(program, index, "supernet_paths");
  TORCH_CHECK(index.size(0) > 0 && images.size(0) % index.size(0) == 0,
              "supernet_paths: the groups of index must divide the images, got ", index.size(0), " groups and ",
              images.size(0), " images");
  TORCH_CHECK(static_cast<int64_t>(params.size()) >= program.params, "supernet_paths: params must hold ",
              program.params, " tensors for this graph, got ", params.size());
  TORCH_CHECK(running.empty() || static_cast<int64_t>(running.size()) == 2 * program.norms,
              "supernet_paths: running must be empty or hold mean and variance of ", program.norms,
              " normalisations, got ", running.size(), " tensors");
  TORCH_CHECK(static_cast<int64_t>(eps.size()) >= program.norms, "supernet_paths: eps must hold ", program.norms,
              " numbers, got ", eps.size());
  for (const at::Tensor& p : params)
    TORCH_CHECK(p.scalar_type() == images.scalar_type() && p.device() == images.device() && p.layout() == at::kStrided,
                "supernet_paths: params must be dense and ", images.scalar_type(), " on ", images.device(),
                ", as the images, got ", p.scalar_type(), " on ", p.device());
  for (const Unit& u : program.units) {
    if (u.weight >= 0) check_weight(u, u.weight, params[u.weight]);
    for (int64_t v : {u.bias, u.gamma, u.beta})
      if (v >= 0) check_vector(params[v], u.c_out, images, "params", v);
    if (u.norm >= 0 && !running.empty())
      for (int64_t r : {2 * u.norm, 2 * u.norm + 1}) check_vector(running[r], u.c_out, images, "running", r);
  }
}

void check_update(const Program& program, const at::Tensor& index, at::TensorList mean, at::TensorList var,
                  at::TensorList batches, at::IntArrayRef sizes, at::ArrayRef<double> momentum) {
  check_index(program, index, "supernet_update_running_");
  TORCH_CHECK(sizes.size() == 4, "supernet_update_running_: sizes must be those of the images, four, got ",
              sizes.size());
  const auto count = static_cast<size_t>(program.norms);
  TORCH_CHECK(mean.size() == count && var.size() == count && batches.size() == count && momentum.size() == count,
              "supernet_update_running_: mean, var, batches and momentum must hold ", count, " each, got ", mean.size(),
              ", ", var.size(), ", ", batches.size(), " and ", momentum.size());
  for (const Unit& u : program.units) {
    if (u.norm < 0) continue;
    for (const at::Tensor& t : {mean[u.norm], var[u.norm]})
      TORCH_CHECK(t.dim() == 1 && t.size(0) >= u.c_out && at::isFloatingType(t.scalar_type()),
                  "supernet_update_running_: statistics of normalisation ", u.norm,
                  " must be floating point, at least [", u.c_out, "], got ", t.scalar_type(), " ", t.sizes());
    TORCH_CHECK(batches[u.norm].scalar_type() == at::kLong && batches[u.norm].numel() == 1,
                "supernet_update_running_: batches must be int64 scalars, got ", batches[u.norm].scalar_type());
  }
}

}  // namespace nasfast::supernet
