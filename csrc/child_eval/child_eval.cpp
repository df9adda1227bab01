#include "child_eval.h"

#include <ATen/Parallel.h>
#include <torch/library.h>

#include "executor_cpu.h"
#include "weight_bank.h"

namespace nasfast::child_eval {
namespace {

Images view(const at::Tensor& x, const char* name, int64_t channels) {
  check_images(x, name, channels, at::kCPU, {at::kFloat}, "float32");
  return {x.const_data_ptr<float>(),
          x.size(0),
          x.size(1),
          x.size(2),
          x.size(3),
          {x.stride(0), x.stride(1), x.stride(2), x.stride(3)}};
}

Result child_eval_cpu(const at::Tensor& images, const std::optional<at::Tensor>& calibration, at::TensorList tensors,
                      at::ArrayRef<double> eps, const at::Tensor& primitives, const at::Tensor& macros,
                      const at::Tensor& nodes, const at::Tensor& inputs, const at::Tensor& outputs, int64_t classes,
                      int64_t memory_bound) {
  const Request r = parse_request(primitives, macros, nodes, inputs, outputs, classes, memory_bound);
  const Images x = view(images, "images", r.in_channels);
  const WeightBank bank(r.primitives, r.primitives_used(), tensors, eps);
  const Work work{r.plan, r.primitives, r.live};
  const int threads = at::get_num_threads();
  at::Tensor logits = at::empty({outputs.numel(), x.count, classes}, at::kFloat);
  NodeStatistics statistics;
  Report found, before;
  const char* phase = "evaluation";
  try {
    if (calibration) {
      phase = "calibration";
      before = calibrate(work, bank.packed(), view(*calibration, "calibration", r.in_channels), memory_bound, threads,
                         statistics);
      phase = "evaluation";
    }
    found = evaluate(work, bank.packed(), x, calibration ? &statistics : nullptr, r.place, classes, memory_bound,
                     threads, logits.data_ptr<float>());
  } catch (const DoesNotFit& e) {
    fail_too_small(phase, e.needed, memory_bound);
  }
  Usage usage;
  usage.peak_bytes = std::max(found.peak_bytes, before.peak_bytes);
  usage.statistics_bytes = static_cast<int64_t>(statistics.values.size() * sizeof(float));
  usage.computed_again = found.computed_again + before.computed_again;
  usage.threads = found.threads;
  usage.slice_images = found.slice_images;
  usage.parts = 1;
  return {logits, usage.tensor()};
}

}  // namespace

TORCH_LIBRARY_FRAGMENT(nasfast, m) {
  m.def(
      "child_eval(Tensor images, Tensor? calibration, Tensor[] tensors, float[] eps, Tensor primitives, Tensor macros, "
      "Tensor nodes, Tensor inputs, Tensor outputs, int classes, int memory_bound) -> (Tensor, Tensor)");
}

TORCH_LIBRARY_IMPL(nasfast, CPU, m) { m.impl("child_eval", child_eval_cpu); }

}  // namespace nasfast::child_eval
