#include "backward_cuda.h"

#include <algorithm>

namespace nasfast::supernet {

DeviceBackward::DeviceBackward(const DeviceCall& device, const Call& call, const at::Tensor& grad_out,
                               const at::Tensor& kept, const at::Tensor& stats, const Wanted& wanted)
    : DeviceExecutor(device, call, true),
      grad_out_(grad_out),
      wanted_(wanted),
      grad_(tape_.values.size(), -1),
      dy_(tape_.steps.size(), -1),
      coefficients_(tape_.norms.size(), nullptr),
      parts_(call.params.size()) {
  int64_t total = 0;
  const auto offsets = kept_offsets(total);
  TORCH_CHECK(kept.numel() == total && stats.numel() == tape_.stats_elements,
              "supernet_paths: kept and stats must be those of this call's forward, ", total, " and ",
              tape_.stats_elements, " elements, got ", kept.numel(), " and ", stats.numel());
  float* data = const_cast<float*>(device.read<float>(kept));
  for (size_t v = 0; v < offsets.size(); ++v)
    if (offsets[v] >= 0) data_[v] = data + offsets[v];
  stats_ = const_cast<double*>(device.read<double>(stats));
  int64_t rows = 0;
  for (const NormUse& use : tape_.norms) rows += 5 * leading(use.channels);
  coefficients_storage_ = device.empty({rows}, at::kFloat);
  float* p = device.write<float>(coefficients_storage_);
  for (size_t n = 0; n < coefficients_.size(); ++n) {
    coefficients_[n] = p;
    p += 5 * leading(tape_.norms[n].channels);
  }
  for (size_t i = 0; i < call.params.size(); ++i)
    grads_.params.push_back(wanted.params[i] ? at::empty_like(call.params[i]) : at::Tensor());
  if (wanted.images) grads_.images = at::empty_like(call.images);
}

Grads DeviceBackward::run() {
  prepare_norms();
  if (!tape_.output.logits) start();
  for (size_t i = tape_.stages.size(); i-- > 0;) stage(tape_.stages[i]);
  if (wanted_.images) images();
  params();
  queue_.run(device_);
  return std::move(grads_);
}

// buffers

int DeviceBackward::own(int64_t elements) {
  buffers_.push_back({pool_.take(elements), elements, 1});
  return static_cast<int>(buffers_.size()) - 1;
}

void DeviceBackward::release(int b) {
  if (b >= 0 && --buffers_[b].owners == 0) pool_.give(buffers_[b].p, buffers_[b].elements);
}

void DeviceBackward::drop(int v) {
  release(grad_[v]);
  grad_[v] = -1;
}

bool DeviceBackward::wants(int v) const {
  const Value& x = tape_.values[v];
  return x.alive && !x.zero && !x.constant && (!x.images || wanted_.images);
}

DeviceBackward::Target DeviceBackward::target(int v) {
  if (!wants(v)) return {};
  if (grad_[v] >= 0) return {grad_[v], true};
  grad_[v] = own(elements(tape_.values[v]));
  return {grad_[v], false};
}

// stages

void DeviceBackward::prepare_norms() {
  TaskList<NormTask> list;
  for (size_t n = 0; n < tape_.norms.size(); ++n) {
    const NormTask task = norm_task(static_cast<int>(n), NormKind::kStatistics);
    list.add(task, norm_blocks(task));
  }
  queue_.launch(list, [stream = stream_](const Table<NormTask>& table, const Lists& lists, int64_t blocks) {
    launch_norms(table, lists.partials, false, blocks, stream);
  });
}

void DeviceBackward::start() {
  const ImagesArgs args = images_args(grad_out_, false);
  TaskList<ImagesTask> list;
  for (int64_t g = 0; g < tape_.groups; ++g) {
    const int v = tape_.outputs[g];
    if (!wants(v)) continue;
    grad_[v] = own(elements(tape_.values[v]));
    ImagesTask task{};
    task.out = memory(grad_[v]);
    task.first = static_cast<int>(g * tape_.images);
    list.add(task, images_blocks(args, true));
  }
  queue_.launch(list, [stream = stream_, args](const Table<ImagesTask>& table, const Lists&, int64_t blocks) {
    launch_images(table, args, true, blocks, stream);
  });
}

void DeviceBackward::stage(const Stage& st) {
  Steps units, sum_steps, concat_steps;
  for (int i = st.first_step; i < st.first_step + st.steps; ++i) {
    const Step& s = tape_.steps[i];
    if (!tape_.is_alive(s)) continue;
    if (s.kind == StepKind::kUnit) units.push_back(&s);
    if (s.kind == StepKind::kSum) sum_steps.push_back(&s);
    if (s.kind == StepKind::kConcat) concat_steps.push_back(&s);
  }
  concats(concat_steps);
  sums(sum_steps);
  if (units.empty()) return;
  no_grads(units);
  norms(units, st);
  norm_grads(units);
  input_grads(units);
  weight_grads(units);
  for (const Step* s : units) {
    release(dy(*s));
    grad_[s->out] = -1;
  }
}

// Values that the output depends on through the statistics of others alone.
void DeviceBackward::no_grads(const Steps& units) {
  for (const Step* s : units) {
    const Value& y = tape_.values[s->out];
    if (grad_[s->out] >= 0 || y.pooled) continue;
    grad_[s->out] = own(elements(y));
    const LayerTask task = map_task(MapKind::kSum, y, memory(grad_[s->out]));
    lists_.map.add(task, map_blocks(task));
  }
  launch_layers(lists_, false);
}

// The gradients of the images of all groups; zero where the output does not depend on them.
void DeviceBackward::images() {
  const ImagesArgs args = images_args(grads_.images, true);
  TaskList<ImagesTask> list;
  for (const Step& s : tape_.steps) {
    if (s.kind != StepKind::kPack) continue;
    ImagesTask task{};
    task.x.data = memory(grad_[s.out]);
    task.first = static_cast<int>(s.group * tape_.images);
    list.add(task, images_blocks(args, false));
  }
  queue_.launch(list, [stream = stream_, args](const Table<ImagesTask>& table, const Lists&, int64_t blocks) {
    launch_images(table, args, false, blocks, stream);
  });
}

// Adds to the launch of what passes gradients on. A buffer that it writes already has to wait for the next.
void DeviceBackward::pass(LayerTask task, const Target& to) {
  if (std::find(passed_.begin(), passed_.end(), to.buffer) != passed_.end()) flush_passes();
  passed_.push_back(to.buffer);
  task.out = memory(to.buffer);
  task.add = to.add;
  passes_.add(task, map_blocks(task));
}

void DeviceBackward::flush_passes() {
  queue_.launch(passes_, [stream = stream_](const Table<LayerTask>& table, const Lists&, int64_t blocks) {
    launch_map_grad(table, blocks, stream);
  });
  passed_.clear();
}

// Each summand receives the gradient as it is: the one that nothing else reads takes the buffer, others a copy. All
// first summands come before all second ones, so that groups share launches where a value is added to itself.
void DeviceBackward::sums(const Steps& steps) {
  int most = 0;
  for (const Step* s : steps) most = std::max(most, s->inputs);
  for (int i = 0; i < most; ++i)
    for (const Step* s : steps) {
      if (i >= s->inputs) continue;
      const int v = tape_.in(*s)[i], g = grad_[s->out];
      if (!wants(v)) continue;
      if (tape_.values[v].readers == 1) {
        grad_[v] = g;
        ++buffers_[g].owners;
        continue;
      }
      LayerTask task = map_task(MapKind::kPassGrad, tape_.values[v], nullptr);
      task.x.data = memory(g);
      pass(task, target(v));
    }
  flush_passes();
  for (const Step* s : steps) drop(s->out);
}

void DeviceBackward::concats(const Steps& steps) {
  int most = 0;
  for (const Step* s : steps) most = std::max(most, s->inputs);
  std::vector<int> at(steps.size(), 0);  // first channel of the part
  for (int i = 0; i < most; ++i)
    for (size_t k = 0; k < steps.size(); ++k) {
      const Step& s = *steps[k];
      if (i >= s.inputs) continue;
      const int v = tape_.in(s)[i];
      const Target to = target(v);
      if (to.buffer >= 0) {
        LayerTask task = map_task(MapKind::kPartGrad, tape_.values[v], nullptr);
        task.x.data = memory(grad_[s.out]);
        task.window.source_ld = ld(tape_.values[s.out]);
        task.first = at[k];
        pass(task, to);
      }
      at[k] += static_cast<int>(tape_.values[v].channels);
    }
  flush_passes();
  for (const Step* s : steps) drop(s->out);
}

// Coefficients behind every normalisation of the stage, and the parts of the gradients of gamma and beta.
void DeviceBackward::norms(const Steps& units, const Stage& st) {
  for (const Step* s : units) dy(*s) = grad_[s->out];
  TaskList<ReduceTask> reductions;
  TaskList<NormTask> list;
  for (int n = st.first_norm; n < st.first_norm + st.norms; ++n) {
    const NormUse& use = tape_.norms[n];
    std::vector<Partial> partials;
    for (int member : use.members) {
      const Step& s = tape_.steps[member];
      const Value& y = tape_.values[s.out];
      if (!tape_.is_alive(s)) continue;
      ReduceTask task = reduce_task(y);
      task.y = data_[y.data];
      task.g = memory(dy(s));
      task.rows = rows_[n];
      task.act = static_cast<int>(y.act);
      partials.push_back(partial_of(task));
      reductions.add(task, reduce_blocks(task));
    }
    if (partials.empty()) continue;
    NormTask task = norm_task(n, NormKind::kStatistics);
    task.first = Queue::extend(queue_.partials, partials);
    task.members = static_cast<int>(partials.size());
    task.coefficients = coefficients_[n];
    task.dgamma = coefficients_[n] + 3 * task.ld;
    task.dbeta = coefficients_[n] + 4 * task.ld;
    list.add(task, norm_blocks(task));
    PartTask part{};
    part.copies = 1;
    part.c_out = task.channels;
    part.kind = PartKind::kVector;
    part.packed = task.dgamma;
    if (use.unit->norm >= 0) add_part(use.unit->gamma, part);
    part.packed = task.dbeta;
    add_part(use.unit->norm >= 0 ? use.unit->beta : use.unit->bias, part);
  }
  const auto used = reductions.tasks;
  queue_.launch(reductions, [stream = stream_](const Table<ReduceTask>& table, const Lists&, int64_t blocks) {
    launch_norm_sums(table, blocks, stream);
  });
  queue_.launch(list, [stream = stream_](const Table<NormTask>& table, const Lists& lists, int64_t blocks) {
    launch_norms(table, lists.partials, true, blocks, stream);
  });
  for (const ReduceTask& task : used) pool_.give(reinterpret_cast<float*>(task.partial), partial_elements(task));
}

// dy in place of g, or beside it where others need g.
void DeviceBackward::norm_grads(const Steps& units) {
  std::vector<int> left;
  for (const Step* s : units) {
    const Value& y = tape_.values[s->out];
    if (y.norm < 0 && y.act == Act::kNone) continue;
    int& buffer = dy(*s);
    LayerTask task = map_task(MapKind::kNormGrad, y, nullptr);
    task.x.data = memory(buffer);
    task.gate = read(s->out);
    if (y.norm >= 0) {
      task.coefficients = coefficients_[y.norm];
      task.centred = batch_statistics(tape_.norms[y.norm]);
    }
    if (buffers_[buffer].owners > 1) {
      left.push_back(buffer);
      buffer = own(elements(y));
    }
    task.out = memory(buffer);
    lists_.map.add(task, map_blocks(task));
  }
  launch_layers(lists_, true);
  for (int buffer : left) release(buffer);
}

void DeviceBackward::input_grads(const Steps& units) {
  for (const Step* s : units) {
    const Target to = target(tape_.in(*s)[0]);
    if (to.buffer >= 0) input_grad(*s, to);
  }
  launch_layers(lists_, true);
  queue_.launch(heads_,
                [stream = stream_, most = most_channels_](const Table<HeadTask>& table, const Lists&, int64_t blocks) {
                  launch_head(table, most, true, blocks, stream);
                });
}

void DeviceBackward::input_grad(const Step& s, const Target& to) {
  const Unit& u = *s.unit;
  const int x = tape_.in(s)[0];
  const Value& from = tape_.values[x];
  if (u.kind == UnitKind::kHead) {
    HeadTask task{};
    task.weights = bank_[&u - program_.units.data()].weight;
    task.g = device_.read<float>(grad_out_) + s.group * tape_.images * u.c_out;
    task.out = memory(to.buffer);
    task.images = static_cast<int>(tape_.images);
    task.pixels = from.h * from.w;
    task.ld = ld(from);
    task.classes = static_cast<int>(u.c_out);
    task.add = to.add;
    most_channels_ = std::max(most_channels_, task.ld);
    return heads_.add(task, task.images);
  }
  LayerTask task = layer_task(s, true);
  task.x.data = memory(dy(s));
  task.x.channels = static_cast<int>(tape_.values[s.out].channels);
  if (data_[from.data]) task.gate = read(x);  // of what is not kept, the values do not matter
  task.then = static_cast<int>(u.before);
  task.out = memory(to.buffer);
  task.add = to.add;
  switch (u.kind) {
    case UnitKind::kConv:
      return lists_.conv_of(task.window.result_ld).add(task, conv_blocks(task));
    case UnitKind::kDepthwise:
      return lists_.lanes.add(task, map_blocks(task));
    case UnitKind::kMaximumPool:
      task.kind = MapKind::kMaximumGrad;
      break;
    case UnitKind::kAveragePool:
    case UnitKind::kPick:
      task.kind = MapKind::kAverageGrad;
      break;
    default:
      task.kind = MapKind::kPassGrad;
      if (u.norm < 0) task.then = static_cast<int>(std::max(u.before, u.after));
  }
  lists_.map.add(task, map_blocks(task));
}

Grads backward_cuda(const DeviceCall& device, const Call& call, const at::Tensor& grad_out, const at::Tensor& kept,
                    const at::Tensor& stats, const Wanted& wanted) {
  return DeviceBackward(device, call, grad_out, kept, stats, wanted).run();
}

}  // namespace nasfast::supernet
