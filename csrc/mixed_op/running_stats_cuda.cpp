// update_running_stats_ on CUDA: one launch for all BatchNorms of a call.
#include <algorithm>

#include "contract.h"
#include "kernels_cuda.h"
#include "launch_plan_cuda.h"

namespace nasfast::mixed_op {
namespace {

void update_running_stats_cuda(const at::Tensor& stats, at::TensorList running_mean, at::TensorList running_var,
                               at::TensorList batches, double momentum, int64_t count) {
  check_running_stats(stats, running_mean, running_var, batches, count);
  const DeviceCall device(stats);
  const at::Tensor plain = stats.to(at::kFloat).contiguous();
  const auto view = [&](const at::Tensor& t) {
    TORCH_CHECK(param_type(t.scalar_type()) == t.scalar_type() && t.device() == stats.device(),
                "update_running_stats_: running statistics must be float32, bfloat16 or float16 on ", stats.device(),
                ", got ", t.scalar_type(), " on ", t.device());
    return param_view(device, t, true);
  };
  const int64_t C = stats.size(2), norms = stats.size(0);
  RunningArgs args{};
  args.C = checked_int("running_stats", "channels", C);
  args.momentum = static_cast<float>(momentum);
  args.unbiased = static_cast<float>(momentum * static_cast<double>(count) / static_cast<double>(count - 1));
  for (int64_t first = 0; first < norms; first += kMaxRunningUnits) {
    args.units = static_cast<int>(std::min<int64_t>(norms - first, kMaxRunningUnits));
    args.stats = device.read<float>(plain) + first * 2 * C;
    for (int k = 0; k < args.units; ++k)
      args.unit[k] = {view(running_mean[first + k]), view(running_var[first + k]),
                      device.write<int64_t>(batches[first + k])};
    launch_running_stats(args, device.stream());
  }
}

}  // namespace

NASFAST_DEVICE_IMPL(running_stats, m) { m.impl("update_running_stats_", update_running_stats_cuda); }

}  // namespace nasfast::mixed_op
