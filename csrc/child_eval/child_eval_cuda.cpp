// Batched child evaluation on CUDA: calibration, if asked for, and evaluation, each as few parts of the population as
// the memory bound allows, evaluation also in slices of the batch.
//
// No image sees another one in evaluation, so a batch that does not fit is cut first, down to kEnoughImages, which keep
// the device busy; then the population is divided; then the batch again. Neither shows in the results.
#include <algorithm>

#include "../aten/dispatch_cuda.h"
#include "child_eval.h"
#include "executor_cuda.h"

namespace nasfast::child_eval {
namespace {

using at::Tensor;

constexpr int64_t kEnoughImages = 16;

struct Slices {
  int64_t images;  // at a time
  std::vector<Part> parts;
};

template <class S>
class Evaluation {
 public:
  Evaluation(const DeviceCall& call, const Request& request, const DeviceBank& bank, int64_t bound)
      : call_(call), request_(request), bank_(bank), bound_(bound) {
    for (size_t i = 0; i < request.live.size(); ++i)
      operations_ += request.live[i] && request.plan.nodes[i].kind == NodeKind::kOperation;
  }

  void calibrate(const Tensor& images) {
    const Program program = make(true);
    check_counts(program, images);
    std::vector<Part> parts;
    try {
      parts = divide(request_.plan, program, bytes(program, images, images.size(0)), bound_);
    } catch (const DoesNotFit& e) {
      fail_too_small("calibration", e.needed, bound_);
    }
    storage_ = call_.empty({2, program.statistics}, at::kFloat);
    statistics_.used = call_.template write<float>(storage_);
    statistics_.kept = statistics_.used + program.statistics;
    usage_.statistics_bytes = static_cast<int64_t>(storage_.nbytes());
    Executor<S> executor(call_, program, bank_, statistics_);
    for (const Part& part : parts) executor.run(part, images, nullptr);
    note(parts);
  }

  Tensor evaluate(const Tensor& images) {
    const Program program = make(false);
    Slices slices;
    try {
      slices = cut(program, images);
    } catch (const DoesNotFit& e) {
      fail_too_small("evaluation", e.needed, bound_);
    }
    const int64_t N = images.size(0), outputs = static_cast<int64_t>(request_.plan.outputs.size());
    const Tensor logits = call_.empty({outputs, N, request_.classes}, at::kFloat);
    float* data = call_.template write<float>(logits);
    Executor<S> executor(call_, program, bank_, statistics_);
    for (int64_t first = 0; first < N; first += slices.images) {
      const Destination to{data + first * request_.classes, N, request_.classes, request_.place};
      const Tensor slice = images.narrow(0, first, std::min(slices.images, N - first));
      for (const Part& part : slices.parts) executor.run(part, slice, &to);
    }
    note(slices.parts);
    usage_.slice_images = slices.images;
    return logits;
  }

  const Usage& usage() const { return usage_; }

 private:
  Program make(bool calibration) const {
    return make_program(request_.plan, request_.primitives, request_.live, kPack, calibration);
  }
  static TaskBytes bytes(const Program& program, const Tensor& images, int64_t count) {
    return task_bytes<S>(program, count, images.size(2), images.size(3));
  }

  static void check_counts(const Program& program, const Tensor& images) {
    for (const Task& t : program.tasks)
      TORCH_CHECK_VALUE(
          t.norm < 0 || images.size(0) * halved(images.size(2), t.halvings) * halved(images.size(3), t.halvings) > 1,
          "child_eval: calibration needs more than one value per channel");
  }

  Slices cut(const Program& program, const Tensor& images) const {
    const int64_t N = images.size(0);
    const auto order = ordered_outputs(request_.plan);
    Part whole = make_part(request_.plan, program, bytes(program, images, 1), order.data(), order.size());
    const int64_t fit = whole.peak_bytes > 0 ? std::min(N, bound_ / whole.peak_bytes) : N;
    if (fit >= std::min(N, kEnoughImages)) {
      Slices out{ceil_div(N, ceil_div(N, fit)), {}};
      whole.peak_bytes *= out.images;
      out.parts.push_back(std::move(whole));
      return out;
    }
    for (int64_t count = std::min(N, kEnoughImages);; count /= 2) {
      try {
        return {count, divide(request_.plan, program, bytes(program, images, count), bound_)};
      } catch (const DoesNotFit&) {
        if (count == 1) throw;
      }
    }
  }

  void note(const std::vector<Part>& parts) {
    int64_t operations = 0;
    for (const Part& part : parts) {
      usage_.peak_bytes = std::max(usage_.peak_bytes, part.peak_bytes);
      operations += part.operations;
    }
    usage_.computed_again += operations - operations_;
    usage_.parts = std::max(usage_.parts, static_cast<int64_t>(parts.size()));
  }

  static constexpr int kPack = 16 / static_cast<int>(sizeof(S));

  const DeviceCall& call_;
  const Request& request_;
  const DeviceBank& bank_;
  const int64_t bound_;
  int64_t operations_ = 0;
  Tensor storage_;
  DeviceStatistics statistics_;
  Usage usage_;
};

Result child_eval_cuda(const Tensor& images, const std::optional<Tensor>& calibration, at::TensorList tensors,
                       at::ArrayRef<double> eps, const Tensor& primitives, const Tensor& macros, const Tensor& nodes,
                       const Tensor& inputs, const Tensor& outputs, int64_t classes, int64_t memory_bound) {
  const Request request = parse_request(primitives, macros, nodes, inputs, outputs, classes, memory_bound);
  const at::ScalarType known[] = {at::kFloat, at::kBFloat16, at::kHalf};
  check_images(images, "images", request.in_channels, images.device(), known, "float32, bfloat16 or float16");
  if (calibration) {
    check_images(*calibration, "calibration", request.in_channels, images.device(), known,
                 "float32, bfloat16 or float16");
    TORCH_CHECK(calibration->scalar_type() == images.scalar_type(),
                "child_eval: calibration must be of the images' dtype, ", images.scalar_type(), ", got ",
                calibration->scalar_type());
  }
  const auto named = name_tensors(request.primitives, request.primitives_used(), tensors, eps, images.device());
  return dispatch_device("child_eval", images.scalar_type(), [&]<class S>() -> Result {
    const DeviceCall call(images);
    const DeviceBank bank = DeviceBank::pack<S>(call, request.primitives, named);
    Evaluation<S> evaluation(call, request, bank, memory_bound);
    if (calibration) evaluation.calibrate(*calibration);
    const Tensor logits = evaluation.evaluate(images);
    return {logits, evaluation.usage().tensor()};
  });
}

}  // namespace

NASFAST_DEVICE_IMPL(child_eval, m) { m.impl("child_eval", child_eval_cuda); }

}  // namespace nasfast::child_eval
