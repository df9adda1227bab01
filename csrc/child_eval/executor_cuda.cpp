#include "executor_cuda.h"

#include <functional>

#include "launches_cuda.h"

namespace nasfast::child_eval {
namespace {

constexpr int64_t kMostRuns = 256;  // blocks that share one reduction: what the last of them has to add up
constexpr int64_t kThreads = 128, kPixelsOfThread = 4;

bool normalised_later(const Program& program, const Task& t) { return program.calibration && t.norm >= 0; }

bool runs_lanes(const Task& t) { return t.kind == TaskKind::kDepthwise || t.kind == TaskKind::kNorm; }

// Parts into which a reduction over tiles is divided; every part has one.
int runs_of(int64_t tiles, bool reduced) {
  const int64_t each = reduced ? ceil_div(tiles, kMostRuns) : 1;
  return static_cast<int>(ceil_div(tiles, each));
}

int groups_of(const Task& t, const TaskShape& s) {
  return static_cast<int>(ceil_div(s.out_ld, runs_lanes(t) ? kLanesChannels : conv_width(s.out_ld)));
}

int64_t partial_elements(const TaskShape& s) { return 4LL * s.runs * s.out_ld; }

}  // namespace

template <class S>
TaskShape task_shape(const Program& program, const Task& t, int64_t N, int64_t height, int64_t width) {
  const Task& in = t.inputs ? program.tasks[program.inputs_of(t)[0]] : t;
  TaskShape s{};
  s.H = halved(height, in.halvings);
  s.W = halved(width, in.halvings);
  s.h = halved(height, t.halvings);
  s.w = halved(width, t.halvings);
  s.in_ld = leading<S>(in.channels);
  s.out_ld = leading<S>(t.channels);
  s.kernel = t.kernel;
  s.stride = t.stride;
  s.dilation = t.dilation;
  s.pad = t.kernel == 2 ? 0 : t.kernel / 2 * t.dilation;
  if (t.second_pixel) {
    TORCH_CHECK_VALUE(s.H % 2 == 0 && s.W % 2 == 0,
                      "child_eval: a factorized reduction must read an even height and width, got ", s.H, "x", s.W);
    s.pad = -1;
  }
  s.channels = t.channels;
  const int64_t pixels = N * s.h * s.w;
  checked_int("child_eval", "pixels of a value", N * std::max(s.H * s.W, s.h * s.w));
  const bool reduced = normalised_later(program, t);
  if (runs_lanes(t)) {
    const int64_t packs = std::min(s.out_ld, kLanesChannels) / (16 / static_cast<int64_t>(sizeof(S)));
    s.runs = runs_of(ceil_div(pixels, kThreads / packs * kPixelsOfThread), reduced);
  } else {
    s.runs = runs_of(ceil_div(pixels, kConvPixels), reduced);
  }
  return s;
}

template <class S>
TaskBytes task_bytes(const Program& program, int64_t N, int64_t height, int64_t width) {
  TaskBytes bytes;
  for (const Task& t : program.tasks) {
    const TaskShape s = task_shape<S>(program, t, N, height, width);
    const bool head = t.kind == TaskKind::kHead;
    bytes.value.push_back(head ? 0 : N * s.h * s.w * s.out_ld * static_cast<int64_t>(sizeof(S)));
    bytes.beside.push_back(normalised_later(program, t) ? partial_elements(s) * static_cast<int64_t>(sizeof(float))
                                                        : 0);
  }
  return bytes;
}

template <class S>
struct Executor<S>::Launches {
  template <class Args>
  using Run = std::function<void(const Args&, int64_t)>;
  using ConvList = TaskList<ConvArgs, kConvTasks, Run<ConvArgs>>;

  Launches(const DeviceCall& call, bool statistics)
      : conv{ConvList(conv_run(call, 16, statistics)), ConvList(conv_run(call, 32, statistics)),
             ConvList(conv_run(call, 64, statistics))},
        lanes([&call, statistics](const ConvArgs& args, int64_t blocks) {
          launch_depthwise<S>(args, statistics, blocks, call.stream());
        }),
        map([&call](const MapArgs& args, int64_t blocks) { launch_map<S>(args, blocks, call.stream()); }),
        head([&call](const HeadArgs& args, int64_t blocks) { launch_head<S>(args, blocks, call.stream()); }) {}

  static Run<ConvArgs> conv_run(const DeviceCall& call, int width, bool statistics) {
    return [&call, width, statistics](const ConvArgs& args, int64_t blocks) {
      launch_conv<S>(args, width, statistics, blocks, call.stream());
    };
  }

  ConvList& conv_of(int width) { return conv[width == 16 ? 0 : width == 32 ? 1 : 2]; }

  void start(int64_t images) {
    for (ConvList& list : conv) list.start(images);
    lanes.start(images);
    map.start(images);
    head.start(images);
  }
  void flush_map() {
    map.flush();
    terms = 0;
  }
  void flush() {
    for (ConvList& list : conv) list.flush();
    lanes.flush();
    flush_map();
    head.flush();
  }

  ConvList conv[3], lanes;
  TaskList<MapArgs, kMapTasks, Run<MapArgs>> map;
  TaskList<HeadArgs, kHeadTasks, Run<HeadArgs>> head;
  int terms = 0;
};

template <class S>
Executor<S>::Executor(const DeviceCall& call, const Program& program, const DeviceBank& bank,
                      const DeviceStatistics& statistics)
    : call_(call),
      program_(program),
      bank_(bank),
      statistics_(statistics),
      launches_(std::make_unique<Launches>(call, program.calibration)),
      values_(program.tasks.size()) {}

template <class S>
Executor<S>::~Executor() = default;

template <class S>
void Executor<S>::run(const Part& part, const at::Tensor& images, const Destination* to) {
  images_ = images;
  to_ = to;
  launches_->start(images.size(0));
  at::Tensor counters;
  if (program_.calibration) {
    int64_t groups = 0;
    for (const Level& l : part.levels)
      for (int32_t id : l.tasks) {
        const Task& t = program_.tasks[id];
        if (normalised_later(program_, t))
          groups += groups_of(t, task_shape<S>(program_, t, images.size(0), images.size(2), images.size(3)));
      }
    counters = call_.zeros({groups}, at::kInt);
    next_counter_ = call_.write<uint32_t>(counters);
  }
  for (const Level& l : part.levels) level(l, part);
}

template <class S>
void Executor<S>::level(const Level& level, const Part& part) {
  const auto shape_of_task = [&](int32_t id) {
    return task_shape<S>(program_, program_.tasks[id], images_.size(0), images_.size(2), images_.size(3));
  };
  if (program_.calibration) {
    int64_t elements = 0;
    for (int32_t id : level.tasks)
      if (normalised_later(program_, program_.tasks[id])) elements += partial_elements(shape_of_task(id));
    partial_ = call_.empty({elements}, at::kFloat);
    next_partial_ = call_.write<float>(partial_);
  }
  for (int32_t id : level.tasks) {
    const TaskShape shape = shape_of_task(id);
    switch (program_.tasks[id].kind) {
      case TaskKind::kImages:
        images_task(id, shape);
        break;
      case TaskKind::kConv:
      case TaskKind::kDepthwise:
      case TaskKind::kNorm:
        convolution(id, shape, part.unread[id]);
        break;
      case TaskKind::kHead:
        head(id, shape);
        break;
      default:
        map(id, shape);
    }
  }
  launches_->flush();
  for (int32_t id : level.freed) values_[id] = {};
}

template <class S>
S* Executor<S>::result(int32_t id, const TaskShape& shape) {
  Value& v = values_[id];
  v.storage = call_.empty({images_.size(0), shape.h, shape.w, shape.out_ld}, ScalarTypeOf<S>::value);
  S* data = call_.template write<S>(v.storage);
  v.source = {data, nullptr, kActNone, program_.tasks[id].channels};
  return data;
}

// A task's value as its reader `before` which it is activated sees it.
template <class S>
Source Executor<S>::read(int32_t id, Act before) const {
  Source s = values_[id].source;
  s.act = std::max(s.act, static_cast<int>(before));
  return s;
}

// Scale and shift that a task's result gets at once.
template <class S>
const float* Executor<S>::folded(const Task& t) const {
  if (t.norm >= 0) {
    if (program_.calibration) return nullptr;
    return statistics_.kept ? statistics_.kept + t.statistics : bank_[t.primitive].norms[t.norm].folded;
  }
  return t.bias ? bank_[t.primitive].bias : nullptr;
}

template <class S>
void Executor<S>::convolution(int32_t id, const TaskShape& shape, bool unread) {
  const Task& t = program_.tasks[id];
  ConvTask task{};
  task.x = read(program_.inputs_of(t)[0], t.before);
  task.weights = t.kind == TaskKind::kNorm ? nullptr : bank_[t.primitive].weights[t.weight];
  task.after = folded(t);
  if (t.residual >= 0) task.residual = values_[t.residual].source.data;
  const bool later = normalised_later(program_, t);
  if (!(unread && t.kind == TaskKind::kNorm)) task.out = result(id, shape);
  task.act = static_cast<int16_t>(later ? kActNone : static_cast<int>(t.after));
  const int groups = groups_of(t, shape);
  if (later) {
    const DeviceNorm& norm = bank_[t.primitive].norms[t.norm];
    task.statistics = {
        next_partial_, next_counter_, norm.affine, statistics_.used + t.statistics, statistics_.kept + t.statistics,
        norm.eps};
    next_partial_ += partial_elements(shape);
    next_counter_ += groups;
    values_[id].source.affine = task.statistics.used;
    values_[id].source.act = static_cast<int>(t.after);
  }
  auto& list = runs_lanes(t) ? launches_->lanes : launches_->conv_of(conv_width(shape.out_ld));
  list.add(task, shape, static_cast<int64_t>(shape.runs) * groups);
}

template <class S>
void Executor<S>::map(int32_t id, const TaskShape& shape) {
  const Task& t = program_.tasks[id];
  TORCH_CHECK(t.inputs <= kMapTerms, "child_eval: a sum or concatenation must read at most ", kMapTerms,
              " values on CUDA, got ", t.inputs);
  auto& list = launches_->map;
  if (launches_->terms + t.inputs > kMapTerms || list.args().tasks == kMapTasks) launches_->flush_map();
  MapTask task{};
  task.kind = t.kind == TaskKind::kSum           ? MapKind::kSum
              : t.kind == TaskKind::kConcat      ? MapKind::kConcat
              : t.kind == TaskKind::kAveragePool ? MapKind::kAverage
                                                 : MapKind::kMaximum;
  const int64_t items = images_.size(0) * shape.h * shape.w * shape.out_ld * static_cast<int64_t>(sizeof(S)) / 16;
  task.out = result(id, shape);
  task.first_term = launches_->terms;
  task.terms = t.inputs;
  for (int32_t k = 0; k < t.inputs; ++k)
    list.args().term[launches_->terms++] = read(program_.inputs_of(t)[k], t.before);
  list.add(task, shape, ceil_div(items, kMapItems));
}

template <class S>
void Executor<S>::head(int32_t id, const TaskShape& shape) {
  const Task& t = program_.tasks[id];
  const DevicePrimitive& weights = bank_[t.primitive];
  HeadTask task{};
  task.x = read(program_.inputs_of(t)[0], t.before);
  task.weights = static_cast<const float*>(weights.weights[0]);
  task.bias = weights.bias + shape.out_ld;  // the shift
  task.out = to_->logits + to_->place[t.node] * to_->images * to_->classes;
  launches_->head.args().classes = static_cast<int>(to_->classes);
  launches_->head.add(task, shape, images_.size(0));
}

template <class S>
void Executor<S>::images_task(int32_t id, const TaskShape& shape) {
  ImagesArgs args{};
  args.images = call_.template read<S>(images_);
  for (int i = 0; i < 4; ++i) args.stride[i] = images_.stride(i);
  args.out = result(id, shape);
  args.N = checked_int("child_images", "images", images_.size(0));
  args.C = program_.tasks[id].channels;
  args.H = shape.h;
  args.W = shape.w;
  args.ld = shape.out_ld;
  launch_images<S>(args, call_.stream());
}

#define NASFAST_INSTANTIATE(S)                                                              \
  template TaskShape task_shape<S>(const Program&, const Task&, int64_t, int64_t, int64_t); \
  template TaskBytes task_bytes<S>(const Program&, int64_t, int64_t, int64_t);              \
  template class Executor<S>;
NASFAST_INSTANTIATE(float)
NASFAST_INSTANTIATE(bf16_t)
NASFAST_INSTANTIATE(half_t)
#undef NASFAST_INSTANTIATE

}  // namespace nasfast::child_eval
