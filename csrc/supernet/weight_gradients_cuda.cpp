// The part of backward on CUDA that gives gradients of parameters.
#include <algorithm>

#include "backward_cuda.h"

namespace nasfast::supernet {
namespace {

constexpr int64_t kEnoughBlocks = 512;  // that keep a device busy
constexpr int64_t kChunkPixels = 512;   // at least, of a chunk
constexpr int64_t kDepthOfStep = 16;    // pixels that a block takes at a time

int list_of_kernel(int kernel) { return kernel == 3 ? 0 : kernel == 5 ? 1 : 2; }

}  // namespace

// A unit of the stage with all groups that computed it on images of one size.
struct DeviceBackward::WeightJob {
  const Unit* unit;
  Window window;
  std::vector<Member> members;
};

void DeviceBackward::weight_grads(const Steps& units) {
  std::vector<WeightJob> jobs;
  for (const Step* s : units) {
    const Unit& u = *s->unit;
    const bool head = u.kind == UnitKind::kHead;
    if (!(u.is_conv() && wants_param(u.weight)) && !(head && (wants_param(u.weight) || wants_param(u.bias)))) continue;
    const Window w = window(*s, false);
    auto it = std::find_if(jobs.begin(), jobs.end(), [&](const WeightJob& j) {
      return j.unit == &u && j.window.source_h == w.source_h && j.window.source_w == w.source_w;
    });
    if (it == jobs.end()) it = jobs.insert(jobs.end(), WeightJob{&u, w, {}});
    Member member{};
    if (head) {
      member.x = read(s->out);  // what was pooled
      member.dy = device_.read<float>(grad_out_) + s->group * tape_.images * u.c_out;
    } else {
      member.x = read(tape_.in(*s)[0], u.before);
      member.dy = memory(dy(*s));
    }
    it->members.push_back(member);
  }
  for (const WeightJob& job : jobs) weight_job(job);
  for (int i = 0; i < 3; ++i) {
    queue_.launch(conv_weights_[i],
                  [i, stream = stream_](const Table<WeightTask>& table, const Lists& lists, int64_t blocks) {
                    launch_conv_weights(table, lists.members, i == 0 ? 16 : i == 1 ? 32 : 64, blocks, stream);
                  });
    queue_.launch(lanes_weights_[i],
                  [i, stream = stream_](const Table<WeightTask>& table, const Lists& lists, int64_t blocks) {
                    launch_depthwise_weights(table, lists.members, 3 + 2 * i, blocks, stream);
                  });
  }
  queue_.launch(head_weights_, [stream = stream_](const Table<WeightTask>& table, const Lists& lists, int64_t blocks) {
    launch_head_weights(table, lists.members, blocks, stream);
  });
}

void DeviceBackward::weight_job(const WeightJob& job) {
  const Unit& u = *job.unit;
  WeightTask task{};
  task.window = job.window;
  task.images = static_cast<int>(tape_.images);
  task.members = static_cast<int>(job.members.size());
  task.first = Queue::extend(queue_.members, job.members);
  PartTask part{};
  part.copies = 1;
  part.c_in = static_cast<int>(u.kind == UnitKind::kDepthwise ? 1 : u.c_in);
  part.c_out = static_cast<int>(u.c_out);
  part.kernel = u.kernel;
  part.in_ld = leading(u.c_in);
  part.out_ld = leading(u.c_out);
  if (u.kind == UnitKind::kHead) {
    task.window.source_ld = part.in_ld;
    task.window.result_ld = part.c_out;
    const int64_t size = u.c_out * (part.in_ld + 1);
    part.packed = task.out = pool_.take(size);
    part.kind = PartKind::kHead;
    add_part(u.weight, part);
    part.packed += u.c_out * part.in_ld;
    part.kind = PartKind::kVector;
    add_part(u.bias, part);
    return head_weights_.add(task, ceil_div(size, kFlatThreads));
  }
  const bool dense = u.kind == UnitKind::kConv;
  const int64_t taps = static_cast<int64_t>(u.kernel) * u.kernel;
  const int64_t tiles = dense
                            ? ceil_div(taps * part.in_ld, kConvPixels) * ceil_div(part.out_ld, conv_width(part.out_ld))
                            : u.kernel * ceil_div(part.out_ld, kReduceChannels);
  const int64_t pixels = tape_.images * job.window.result_h * job.window.result_w * task.members;
  const int64_t wanted = std::clamp(ceil_div(kEnoughBlocks, tiles), int64_t{1}, ceil_div(pixels, kChunkPixels));
  task.chunk_pixels = checked_int("supernet_paths", "pixels of a chunk",
                                  ceil_div(ceil_div(pixels, wanted), kDepthOfStep) * kDepthOfStep);
  task.chunks = static_cast<int>(ceil_div(pixels, task.chunk_pixels));
  part.copies = task.chunks;
  part.copy_stride = taps * (dense ? part.in_ld : 1) * part.out_ld;
  part.packed = task.out = pool_.take(task.chunks * part.copy_stride);
  part.kind = dense ? PartKind::kDense : PartKind::kDepthwise;
  add_part(u.weight, part);
  auto& list = dense ? conv_weights_[part.out_ld > 32   ? 2
                                     : part.out_ld > 16 ? 1
                                                        : 0]
                     : lanes_weights_[list_of_kernel(u.kernel)];
  list.add(task, tiles * task.chunks);
}

void DeviceBackward::add_part(int64_t param, PartTask part) {
  if (wants_param(param)) parts_[param].push_back(part);
}

void DeviceBackward::params() {
  TaskList<ParamTask> list;
  for (size_t p = 0; p < parts_.size(); ++p) {
    if (!wanted_.params[p]) continue;
    const at::Tensor& grad = grads_.params[p];
    ParamTask task{};
    task.grad = device_.write<float>(grad);
    for (int64_t d = 0; d < 4; ++d) {
      task.size[d] = d < grad.dim() ? checked_int("supernet_paths", "size of a parameter", grad.size(d)) : 1;
      task.stride[d] = d < grad.dim() ? grad.stride(d) : 0;
    }
    task.first = Queue::extend(queue_.parts, parts_[p]);
    task.parts = static_cast<int>(parts_[p].size());
    list.add(task, ceil_div(grad.numel(), kFlatThreads));
  }
  queue_.launch(list, [stream = stream_](const Table<ParamTask>& table, const Lists& lists, int64_t blocks) {
    launch_params(table, lists.parts, blocks, stream);
  });
}

}  // namespace nasfast::supernet
