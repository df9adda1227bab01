// The supernet ops on CUDA.
#include "contract.h"
#include "executor_cuda.h"

namespace nasfast::supernet {
namespace {

using at::Tensor;
using at::TensorList;

ForwardTensors forward(const Tensor& images, const Tensor& index, TensorList params, TensorList running,
                       at::IntArrayRef graph, at::ArrayRef<double> eps, bool per_operation, bool keep) {
  const Program program(graph);
  check_paths(program, images, index, params, running, eps, nasfast::Kernels::kCuda);
  if (images.size(0) == 0) return empty_forward(program, images);
  const Tape tape = make_tape(program, index, images.sizes(), statistics_of(running, per_operation), keep);
  const DeviceCall device(images);
  return forward_cuda(device, {program, tape, images, params.vec(), running.vec(), eps.vec()});
}

BackwardTensors backward(const Tensor& grad_out, const Tensor& images, const Tensor& index, TensorList params,
                         TensorList running, const Tensor& kept, const Tensor& stats, at::IntArrayRef graph,
                         at::ArrayRef<double> eps, bool per_operation, bool want_images,
                         const c10::List<bool>& want_params) {
  const Program program(graph);
  const Wanted wanted = make_wanted(want_images, want_params, params);
  if (images.size(0) == 0) return pack_grads(empty_backward(images, params, wanted), images);
  const Tape tape = make_tape(program, index, images.sizes(), statistics_of(running, per_operation), true);
  const Tensor plain = grad_out.to(images.scalar_type());
  const Tensor g = tape.output.logits ? plain.contiguous() : plain;
  const DeviceCall device(images);
  const Call call{program, tape, images, params.vec(), running.vec(), eps.vec()};
  return pack_grads(backward_cuda(device, call, g, kept, stats, wanted), images);
}

void check_buffer(const Tensor& t, const Tensor& stats, at::ScalarType dtype, const char* name, int64_t number) {
  TORCH_CHECK(t.scalar_type() == dtype && t.device() == stats.device(), "supernet_update_running_: ", name, "[", number,
              "] must be ", dtype, " on ", stats.device(), ", as the statistics of CUDA kernels, got ", t.scalar_type(),
              " on ", t.device());
}

void update_running(const Tensor& stats, const Tensor& index, TensorList mean, TensorList var, TensorList batches,
                    at::IntArrayRef sizes, at::IntArrayRef graph, bool per_operation, at::ArrayRef<double> momentum) {
  const Program program(graph);
  check_update(program, index, mean, var, batches, sizes, momentum);
  if (sizes[0] == 0) return;
  const Tape tape = make_tape(program, index, sizes, statistics_of({}, per_operation), false);
  check_stats(tape, stats);
  std::vector<std::vector<BatchStatistics>> uses(static_cast<size_t>(program.norms));
  const DeviceCall device(stats);
  for (const NormUse& use : tape.norms)
    if (use.stats_offset >= 0)
      uses[use.unit->norm].push_back({device.read<double>(stats) + use.stats_offset, use.count / (use.count - 1),
                                      static_cast<int>(use.channels), 0});
  Queue queue;
  TaskList<RunningTask> list;
  for (int64_t n = 0; n < program.norms; ++n) {
    if (uses[n].empty()) continue;
    check_buffer(mean[n], stats, at::kFloat, "mean", n);
    check_buffer(var[n], stats, at::kFloat, "var", n);
    check_buffer(batches[n], stats, at::kLong, "batches", n);
    RunningTask task{};
    task.mean = device.write<float>(mean[n]);
    task.var = device.write<float>(var[n]);
    task.mean_stride = mean[n].stride(0);
    task.var_stride = var[n].stride(0);
    task.batches = device.write<int64_t>(batches[n]);
    task.momentum = momentum[n];
    task.first = Queue::extend(queue.uses, uses[n]);
    task.uses = static_cast<int>(uses[n].size());
    list.tasks.push_back(task);
  }
  queue.launch(list, [stream = device.stream()](const Table<RunningTask>& table, const Lists& lists, int64_t) {
    launch_running(table, lists.uses, stream);
  });
  queue.run(device);
}

}  // namespace

NASFAST_DEVICE_IMPL(supernet, m) {
  m.impl("_supernet_paths_forward", forward);
  m.impl("_supernet_paths_backward", backward);
  m.impl("supernet_update_running_", update_running);
}

}  // namespace nasfast::supernet
