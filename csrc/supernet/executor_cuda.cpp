#include "executor_cuda.h"

#include <algorithm>

namespace nasfast::supernet {
namespace {

constexpr int kRunPixels = 256, kMostRuns = 64;  // of a reduction over a value

std::vector<uint8_t> used_units(const Program& program, const Tape& tape, bool backward) {
  if (backward) return tape.alive_units(program);
  std::vector<uint8_t> used(program.units.size(), 0);
  for (const Step& s : tape.steps)
    if (s.unit) used[s.unit - program.units.data()] = 1;
  return used;
}

int64_t weight_elements(const Unit& u) {
  const int64_t taps = static_cast<int64_t>(u.kernel) * u.kernel;
  if (u.kind == UnitKind::kHead) return u.c_out * leading(u.c_in);
  if (u.kind == UnitKind::kDepthwise) return taps * leading(u.c_in);
  return taps * leading(u.c_in) * leading(u.c_out);
}

int conv_width_of(int list) { return list == 0 ? 16 : list == 1 ? 32 : 64; }

}  // namespace

float* DevicePool::take(int64_t elements) {
  auto& list = free_[elements];
  if (!list.empty()) {
    float* p = list.back();
    list.pop_back();
    return p;
  }
  storage_.push_back(call_.empty({elements}, at::kFloat));
  return call_.write<float>(storage_.back());
}

DeviceExecutor::DeviceExecutor(const DeviceCall& device, const Call& call, bool backward)
    : device_(device),
      call_(call),
      program_(call.program),
      tape_(call.tape),
      stream_(device.stream()),
      pool_(device),
      bank_(call.program.units.size()),
      data_(call.tape.values.size(), nullptr),
      rows_(call.tape.norms.size(), nullptr) {
  for (const Value& v : tape_.values) checked_int("supernet_paths", "pixels of a group", tape_.images * v.h * v.w);
  int64_t total = 0;
  for (const NormUse& use : tape_.norms) total += 3 * leading(use.channels);
  rows_storage_ = device.empty({total}, at::kFloat);
  float* p = device.write<float>(rows_storage_);
  for (size_t n = 0; n < rows_.size(); ++n) {
    rows_[n] = p;
    p += 3 * leading(tape_.norms[n].channels);
  }
  pack_units(backward);
}

void DeviceExecutor::pack_units(bool backward) {
  const auto used = used_units(program_, tape_, backward);
  const auto packs = [&](const Unit& u) { return used[&u - program_.units.data()] && u.weight >= 0; };
  int64_t total = 0;
  for (const Unit& u : program_.units)
    if (packs(u)) total += weight_elements(u) * (backward && u.kind == UnitKind::kConv ? 2 : 1);
  bank_storage_ = device_.empty({total}, at::kFloat);
  float* next = device_.write<float>(bank_storage_);
  TaskList<PackTask> list;
  for (const Unit& u : program_.units) {
    if (!packs(u)) continue;
    const at::Tensor& w = call_.params[u.weight];
    PackTask task{};
    task.source = device_.read<float>(w);
    for (int64_t d = 0; d < w.dim(); ++d) task.stride[d] = w.stride(d);
    if (u.kind != UnitKind::kHead) task.source += (w.size(2) - u.kernel) / 2 * (w.stride(2) + w.stride(3));
    task.c_in = static_cast<int>(u.kind == UnitKind::kDepthwise ? 1 : u.c_in);
    task.c_out = static_cast<int>(u.c_out);
    task.kernel = u.kind == UnitKind::kHead ? 1 : u.kernel;
    task.in_ld = leading(u.c_in);
    task.out_ld = leading(u.c_out);
    task.kind = u.kind == UnitKind::kHead        ? PackKind::kHead
                : u.kind == UnitKind::kDepthwise ? PackKind::kDepthwise
                                                 : PackKind::kDense;
    const int64_t size = weight_elements(u);
    const auto push = [&](float*& to) {
      task.out = to = next;
      next += size;
      list.add(task, ceil_div(size, kFlatThreads));
    };
    DeviceUnit& unit = bank_[&u - program_.units.data()];
    push(unit.weight);
    if (!backward || u.kind != UnitKind::kConv) continue;
    task.kind = PackKind::kTransposed;
    push(unit.transposed);
  }
  queue_.launch(list, [stream = stream_](const Table<PackTask>& table, const Lists&, int64_t blocks) {
    launch_pack(table, blocks, stream);
  });
}

std::vector<int64_t> DeviceExecutor::kept_offsets(int64_t& total) const {
  std::vector<int64_t> offsets(tape_.values.size(), -1);
  total = 0;
  for (size_t v = 0; v < tape_.values.size(); ++v) {
    if (!tape_.values[v].kept) continue;
    offsets[v] = total;
    total += elements(tape_.values[v]);
  }
  return offsets;
}

Source DeviceExecutor::read(int value, Act then) const {
  const Value& v = tape_.values[value];
  Source s{};
  s.data = data_[v.data];
  s.affine = v.norm >= 0 ? rows_[v.norm] : nullptr;
  s.act = std::max(static_cast<int>(v.act), static_cast<int>(then));  // relu6 after relu is relu6, and the reverse
  s.channels = static_cast<int>(v.channels);
  return s;
}

Window DeviceExecutor::window(const Step& s, bool gradient) const {
  const Value &x = tape_.values[tape_.in(s)[0]], &y = tape_.values[s.out];
  const Unit& u = *s.unit;
  Window w{x.h, x.w, ld(x), y.h, y.w, ld(y), u.kernel, u.stride, u.dilation, 0};
  if (u.kind == UnitKind::kPick) {
    w.pad = 1 - u.kernel;  // reads from the first or the second pixel on
    w.kernel = 1;
  } else {
    w.pad = u.kernel == 2 ? 0 : u.kernel / 2 * u.dilation;
  }
  if (!gradient) return w;
  std::swap(w.source_h, w.result_h);
  std::swap(w.source_w, w.result_w);
  std::swap(w.source_ld, w.result_ld);
  return w;
}

LayerTask DeviceExecutor::layer_task(const Step& s, bool gradient) const {
  const DeviceUnit& unit = bank_[s.unit - program_.units.data()];
  LayerTask task{};
  task.window = window(s, gradient);
  task.weights = gradient && s.unit->kind == UnitKind::kConv ? unit.transposed : unit.weight;
  task.images = static_cast<int>(tape_.images);
  task.channels = static_cast<int>(tape_.values[gradient ? tape_.in(s)[0] : s.out].channels);
  return task;
}

LayerTask DeviceExecutor::map_task(MapKind kind, const Value& v, float* out) const {
  LayerTask task{};
  task.kind = kind;
  task.window = {v.h, v.w, ld(v), v.h, v.w, ld(v), 1, 1, 1, 0};
  task.images = static_cast<int>(tape_.images);
  task.channels = static_cast<int>(v.channels);
  task.out = out;
  return task;
}

int64_t DeviceExecutor::map_blocks(const LayerTask& task) {
  const Window& w = task.window;
  return ceil_div(static_cast<int64_t>(task.images) * w.result_h * w.result_w * (w.result_ld / kPack), kMapItems);
}

int64_t DeviceExecutor::conv_blocks(const LayerTask& task) {
  const Window& w = task.window;
  return ceil_div(static_cast<int64_t>(task.images) * w.result_h * w.result_w, kConvPixels) *
         ceil_div(w.result_ld, conv_width(w.result_ld));
}

ReduceTask DeviceExecutor::reduce_task(const Value& v) {
  ReduceTask task{};
  task.pixels = pixels(v);
  task.ld = ld(v);
  task.run_pixels = std::max(kRunPixels, static_cast<int>(ceil_div(task.pixels, kMostRuns)));
  task.partial = reinterpret_cast<double*>(pool_.take(partial_elements(task)));
  return task;
}

// In floats.
int64_t DeviceExecutor::partial_elements(const ReduceTask& task) const {
  return ceil_div(task.pixels, task.run_pixels) * 2 * task.ld * 2;
}

int64_t DeviceExecutor::reduce_blocks(const ReduceTask& task) {
  return ceil_div(task.pixels, task.run_pixels) * ceil_div(task.ld, kReduceChannels);
}

Partial DeviceExecutor::partial_of(const ReduceTask& task) {
  return {task.partial, static_cast<int>(ceil_div(task.pixels, task.run_pixels)), task.run_pixels, task.pixels, 0};
}

NormTask DeviceExecutor::norm_task(int norm, NormKind batch) const {
  const NormUse& use = tape_.norms[norm];
  const Unit& u = *use.unit;
  NormTask task{};
  task.kind = u.norm < 0 ? NormKind::kBias : batch_statistics(use) ? batch : NormKind::kRunning;
  const auto vector = [&](const at::Tensor& t, const float*& data, int64_t& stride) {
    data = device_.read<float>(t);
    stride = t.stride(0);
  };
  if (u.norm >= 0) vector(call_.params[u.gamma], task.gamma, task.gamma_stride);
  vector(call_.params[u.norm >= 0 ? u.beta : u.bias], task.beta, task.beta_stride);
  if (task.kind == NormKind::kRunning) {
    vector(call_.running[2 * u.norm], task.running_mean, task.mean_stride);
    vector(call_.running[2 * u.norm + 1], task.running_var, task.var_stride);
  }
  if (batch_statistics(use)) task.stats = stats_ + use.stats_offset;
  task.rows = rows_[norm];
  task.eps = u.norm >= 0 ? call_.eps[u.norm] : 0;
  task.count = use.count;
  task.channels = static_cast<int>(use.channels);
  task.ld = leading(use.channels);
  return task;
}

void DeviceExecutor::launch_layers(LayerLists& lists, bool gradient) {
  for (int i = 0; i < 3; ++i)
    queue_.launch(lists.conv[i], [=, stream = stream_](const Table<LayerTask>& table, const Lists&, int64_t blocks) {
      launch_conv(table, conv_width_of(i), gradient, blocks, stream);
    });
  queue_.launch(lists.lanes, [=, stream = stream_](const Table<LayerTask>& table, const Lists&, int64_t blocks) {
    launch_depthwise(table, gradient, blocks, stream);
  });
  queue_.launch(lists.map, [=, stream = stream_](const Table<LayerTask>& table, const Lists& all, int64_t blocks) {
    if (gradient)
      launch_map_grad(table, blocks, stream);
    else
      launch_map(table, all.terms, blocks, stream);
  });
}

ImagesArgs DeviceExecutor::images_args(const at::Tensor& images, bool written) const {
  ImagesArgs args{};
  args.images = written ? device_.write<float>(images) : const_cast<float*>(device_.read<float>(images));
  for (int d = 0; d < 4; ++d) args.stride[d] = images.stride(d);
  args.count = static_cast<int>(tape_.images);
  args.C = static_cast<int>(images.size(1));
  args.H = static_cast<int>(images.size(2));
  args.W = static_cast<int>(images.size(3));
  args.ld = leading(args.C);
  return args;
}

int64_t DeviceExecutor::images_blocks(const ImagesArgs& args, bool in) {
  return ceil_div(static_cast<int64_t>(args.count) * args.H * args.W * (in ? args.ld : args.C), kFlatThreads);
}

}  // namespace nasfast::supernet
