#include "device_bank_cuda.h"

#include <memory>

#include "../core/grid.h"
#include "kernels_cuda.h"

namespace nasfast::child_eval {
namespace {

// A tensor's task, and where its result goes: bytes from the start of the storage.
struct Planned {
  PackTask task;
  int64_t offset, elements, bytes;
};

template <class S>
Planned plan_tensor(const DeviceCall& call, const std::vector<NamedTensor>& tensors, size_t at,
                    const std::vector<Primitive>& primitives) {
  const NamedTensor& t = tensors[at];
  const Primitive& p = primitives[t.primitive];
  const int64_t O = t.tensor.size(0), I = t.tensor.dim() > 1 ? t.tensor.size(1) : 1;
  Planned out{};
  PackTask& task = out.task;
  const bool dense = t.role == TensorRole::kWeight && p.kind != PrimitiveKind::kHead;
  task.source = call.read<float>(t.tensor);
  task.O = checked_int("child_pack", "channels", O);
  task.I = checked_int("child_pack", "channels", I);
  task.taps = dense ? static_cast<int>(t.tensor.size(2) * t.tensor.size(3)) : 1;
  task.in_ld = leading<S>(I);
  task.out_ld = leading<S>(O);
  int64_t size = sizeof(float);
  if (t.role == TensorRole::kNorm) {
    for (int k = 0; k < 3; ++k) task.more[k] = call.read<float>(tensors[at + 1 + k].tensor);
    task.kind = PackKind::kNorm;
    task.eps = static_cast<float>(t.eps);
    out.elements = task.out_ld;
    size *= 4;
  } else if (t.role == TensorRole::kBias) {
    task.kind = PackKind::kBias;
    out.elements = task.out_ld;
    size *= 2;
  } else if (!dense) {
    task.kind = PackKind::kRows;
    out.elements = O * task.in_ld;
  } else if (is_depthwise_weight(p, t.number)) {
    task.kind = PackKind::kDepthwise;
    out.elements = static_cast<int64_t>(task.taps) * task.out_ld;
  } else {
    task.kind = PackKind::kDense;
    out.elements = static_cast<int64_t>(task.taps) * task.in_ld * task.out_ld;
    size = sizeof(S);
  }
  out.bytes = ceil_div(out.elements * size, 16) * 16;
  return out;
}

void note(const NamedTensor& t, const PackTask& task, DevicePrimitive& packed) {
  const auto* numbers = static_cast<const float*>(task.out);
  if (t.role == TensorRole::kWeight) packed.weights[t.number] = task.out;
  if (t.role == TensorRole::kBias) packed.bias = numbers;
  if (t.role == TensorRole::kNorm) packed.norms.push_back({numbers, numbers + 2 * task.out_ld, task.eps});
}

}  // namespace

template <class S>
DeviceBank DeviceBank::pack(const DeviceCall& call, const std::vector<Primitive>& primitives,
                            const std::vector<NamedTensor>& tensors) {
  DeviceBank bank;
  bank.packed_.resize(primitives.size());
  std::vector<std::pair<size_t, Planned>> planned;
  int64_t bytes = 0;
  for (size_t i = 0; i < tensors.size(); ++i) {
    if (tensors[i].role == TensorRole::kNorm && tensors[i].part > 0) continue;
    Planned p = plan_tensor<S>(call, tensors, i, primitives);
    p.offset = bytes;
    bytes += p.bytes;
    planned.emplace_back(i, p);
  }
  bank.storage_ = call.empty({bytes}, at::kByte);
  uint8_t* start = call.write<uint8_t>(bank.storage_);
  const auto args = std::make_unique<PackArgs>();
  int64_t blocks = 0;
  const auto flush = [&] {
    if (args->tasks > 0) launch_pack<S>(*args, blocks, call.stream());
    args->tasks = 0;
    blocks = 0;
  };
  for (auto& [i, p] : planned) {
    p.task.out = start + p.offset;
    note(tensors[i], p.task, bank.packed_[tensors[i].primitive]);
    if (args->tasks == kPackTasks) flush();
    p.task.block = checked_int("child_pack", "blocks", blocks);
    args->task[args->tasks++] = p.task;
    blocks += ceil_div(p.elements, kPackItems);
  }
  flush();
  return bank;
}

template DeviceBank DeviceBank::pack<float>(const DeviceCall&, const std::vector<Primitive>&,
                                            const std::vector<NamedTensor>&);
template DeviceBank DeviceBank::pack<bf16_t>(const DeviceCall&, const std::vector<Primitive>&,
                                             const std::vector<NamedTensor>&);
template DeviceBank DeviceBank::pack<half_t>(const DeviceCall&, const std::vector<Primitive>&,
                                             const std::vector<NamedTensor>&);

}  // namespace nasfast::child_eval
