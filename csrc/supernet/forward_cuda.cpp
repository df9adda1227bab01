// Forward on CUDA: stage by stage, every step of a stage in common launches, one for each kind of work, whatever the
// number of groups. Statistics of what the stage gave follow; nothing is normalised in memory.
#include <algorithm>

#include "executor_cuda.h"

namespace nasfast::supernet {
namespace {

class Forward : private DeviceExecutor {
 public:
  Forward(const DeviceCall& device, const Call& call) : DeviceExecutor(device, call, false) {
    const OutputShape& shape = tape_.output;
    const int64_t N = tape_.groups * tape_.images;
    const Value& last = tape_.values[tape_.outputs[0]];
    out_ = shape.logits ? device.empty({N, shape.channels}, at::kFloat)
                        : device.empty_channels_last(N, last.channels, last.h, last.w, at::kFloat);
    int64_t total = 0;
    const auto offsets = kept_offsets(total);
    kept_ = device.empty({total}, at::kFloat);
    stats_tensor_ = device.empty({tape_.stats_elements}, at::kDouble);
    stats_ = device.write<double>(stats_tensor_);
    float* kept = device.write<float>(kept_);
    for (size_t v = 0; v < offsets.size(); ++v)
      if (offsets[v] >= 0) data_[v] = kept + offsets[v];
  }

  ForwardTensors run() {
    index_releases();
    prepare_norms();
    for (size_t i = 0; i < tape_.stages.size(); ++i) stage(static_cast<int>(i));
    if (!tape_.output.logits) emit();
    queue_.run(device_);
    return {out_, kept_, stats_tensor_};
  }

 private:
  // Values that are free after each stage.
  void index_releases() {
    releases_.resize(tape_.stages.size() + 1);
    for (size_t v = 0; v < tape_.values.size(); ++v) {
      const Value& value = tape_.values[v];
      if (value.data == static_cast<int>(v) && !value.kept && value.last_stage >= 0)
        releases_[value.last_stage].push_back(static_cast<int>(v));
    }
  }

  // Those that no statistics of this batch go into.
  void prepare_norms() {
    TaskList<NormTask> list;
    for (size_t n = 0; n < tape_.norms.size(); ++n) {
      if (batch_statistics(tape_.norms[n])) continue;
      const NormTask task = norm_task(static_cast<int>(n), NormKind::kBatch);
      list.add(task, norm_blocks(task));
    }
    launch_all(list);
  }

  void launch_all(TaskList<NormTask>& list) {
    queue_.launch(list, [stream = stream_](const Table<NormTask>& table, const Lists& lists, int64_t blocks) {
      launch_norms(table, lists.partials, false, blocks, stream);
    });
  }

  void stage(int at) {
    const Stage& st = tape_.stages[at];
    for (int i = st.first_step; i < st.first_step + st.steps; ++i) {
      const Value& owner = tape_.values[tape_.values[tape_.steps[i].out].data];
      float*& data = data_[owner.data];
      if (!data) data = pool_.take(elements(owner));
      step(tape_.steps[i]);
    }
    flush();
    statistics(st);
    for (int v : releases_[at]) {
      pool_.give(data_[v], elements(tape_.values[v]));
      data_[v] = nullptr;
    }
  }

  void step(const Step& s) {
    float* out = data_[tape_.values[s.out].data];
    if (s.kind == StepKind::kUnit) return unit(s, out);
    if (s.kind != StepKind::kPack)
      return map(s.kind == StepKind::kConcat ? MapKind::kConcat : MapKind::kSum, s, out, Act::kNone);
    ImagesTask task{};
    task.out = out;
    task.first = static_cast<int>(s.group * tape_.images);
    images_.add(task, images_blocks(images_args(call_.images, false), true));
  }

  // Sum or concatenation of what the step reads; of nothing, zeros.
  void map(MapKind kind, const Step& s, float* out, Act then) {
    LayerTask task = map_task(kind, tape_.values[s.out], out);
    std::vector<Source> terms;
    for (int i = 0; i < s.inputs; ++i) terms.push_back(read(tape_.in(s)[i], then));
    task.first = Queue::extend(queue_.terms, terms);
    task.terms = s.inputs;
    lists_.map.add(task, map_blocks(task));
  }

  void unit(const Step& s, float* out) {
    const Unit& u = *s.unit;
    const int x = tape_.in(s)[0];
    if (u.kind == UnitKind::kHead) return head(s, out);
    if (u.kind == UnitKind::kNorm) {
      if (tape_.values[s.out].data == tape_.values[x].data) return;  // normalised in place
      return map(MapKind::kSum, s, out, u.norm < 0 ? std::max(u.before, u.after) : u.before);
    }
    LayerTask task = layer_task(s, false);
    task.x = read(x, u.before);
    task.out = out;
    if (u.kind == UnitKind::kConv) return lists_.conv_of(task.window.result_ld).add(task, conv_blocks(task));
    if (u.kind == UnitKind::kDepthwise) return lists_.lanes.add(task, map_blocks(task));
    task.kind = u.kind == UnitKind::kMaximumPool ? MapKind::kMaximum : MapKind::kAverage;
    lists_.map.add(task, map_blocks(task));
  }

  void head(const Step& s, float* pooled) {
    const Unit& u = *s.unit;
    const int x = tape_.in(s)[0];
    const Value& from = tape_.values[x];
    const at::Tensor& bias = call_.params[u.bias];
    HeadTask task{};
    task.x = read(x);
    task.weights = bank_[&u - program_.units.data()].weight;
    task.bias = device_.read<float>(bias);
    task.bias_stride = bias.stride(0);
    task.pooled = pooled;
    task.out = device_.write<float>(out_) + s.group * tape_.images * u.c_out;
    task.images = static_cast<int>(tape_.images);
    task.pixels = from.h * from.w;
    task.ld = ld(from);
    task.classes = static_cast<int>(u.c_out);
    most_channels_ = std::max(most_channels_, task.ld);
    heads_.add(task, task.images);
  }

  void flush() {
    queue_.launch(images_, [stream = stream_, args = images_args(call_.images, false)](const Table<ImagesTask>& table,
                                                                                       const Lists&, int64_t blocks) {
      launch_images(table, args, true, blocks, stream);
    });
    launch_layers(lists_, false);
    queue_.launch(
        heads_, [stream = stream_, most = most_channels_](const Table<HeadTask>& table, const Lists&, int64_t blocks) {
          launch_head(table, most, false, blocks, stream);
        });
  }

  // Of every normalisation of the stage, over its members.
  void statistics(const Stage& st) {
    TaskList<ReduceTask> moments;
    TaskList<NormTask> norms;
    for (int n = st.first_norm; n < st.first_norm + st.norms; ++n) {
      const NormUse& use = tape_.norms[n];
      if (!batch_statistics(use)) continue;
      std::vector<Partial> partials;
      for (int member : use.members) {
        const Value& y = tape_.values[tape_.steps[member].out];
        ReduceTask task = reduce_task(y);
        task.y = data_[y.data];
        partials.push_back(partial_of(task));
        moments.add(task, reduce_blocks(task));
      }
      NormTask task = norm_task(n, NormKind::kBatch);
      task.first = Queue::extend(queue_.partials, partials);
      task.members = static_cast<int>(partials.size());
      norms.add(task, norm_blocks(task));
    }
    const auto used = moments.tasks;
    queue_.launch(moments, [stream = stream_](const Table<ReduceTask>& table, const Lists&, int64_t blocks) {
      launch_moments(table, blocks, stream);
    });
    launch_all(norms);
    for (const ReduceTask& task : used) pool_.give(reinterpret_cast<float*>(task.partial), partial_elements(task));
  }

  void emit() {
    const ImagesArgs args = images_args(out_, true);
    for (int64_t g = 0; g < tape_.groups; ++g) {
      ImagesTask task{};
      if (!tape_.values[tape_.outputs[g]].zero) task.x = read(tape_.outputs[g]);
      task.first = static_cast<int>(g * tape_.images);
      images_.add(task, images_blocks(args, false));
    }
    queue_.launch(images_, [stream = stream_, args](const Table<ImagesTask>& table, const Lists&, int64_t blocks) {
      launch_images(table, args, false, blocks, stream);
    });
  }

  at::Tensor out_, kept_, stats_tensor_;
  std::vector<std::vector<int>> releases_;
  LayerLists lists_;
  TaskList<ImagesTask> images_;
  TaskList<HeadTask> heads_;
  int most_channels_ = 0;
};

}  // namespace

ForwardTensors forward_cuda(const DeviceCall& device, const Call& call) { return Forward(device, call).run(); }

}  // namespace nasfast::supernet
