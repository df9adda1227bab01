// Runs the parts of a program on the device: level by level, the tasks of a level in common launches.
//
// Everything is queued on the current stream, values come from torch's allocator and go back as soon as their last
// reader is queued. Nothing waits for the device.
#pragma once

#include <memory>

#include "device_bank_cuda.h"
#include "program_cuda.h"

namespace nasfast::child_eval {

// What a task's result takes on the device for a batch of N images of height x width.
template <class S>
TaskShape task_shape(const Program& program, const Task& t, int64_t N, int64_t height, int64_t width);
template <class S>
TaskBytes task_bytes(const Program& program, int64_t N, int64_t height, int64_t width);

// Scale and shift of every calibrated normalisation: of the batch itself, and of what is evaluated later.
struct DeviceStatistics {
  float *used = nullptr, *kept = nullptr;
};

struct Destination {
  float* logits;   // of the first image
  int64_t images;  // of one child
  int64_t classes;
  const std::vector<int32_t>& place;  // by node
};

template <class S>
class Executor {
 public:
  Executor(const DeviceCall& call, const Program& program, const DeviceBank& bank, const DeviceStatistics& statistics);
  ~Executor();
  // Images [N, C, H, W] in any layout. `to` is null for a calibration.
  void run(const Part& part, const at::Tensor& images, const Destination* to);

 private:
  struct Launches;
  struct Value {
    at::Tensor storage;
    Source source{};
  };

  void level(const Level& level, const Part& part);
  void task(int32_t id, bool unread);
  S* result(int32_t id, const TaskShape& shape);
  Source read(int32_t id, Act before) const;
  void convolution(int32_t id, const TaskShape& shape, bool unread);
  void map(int32_t id, const TaskShape& shape);
  void head(int32_t id, const TaskShape& shape);
  void images_task(int32_t id, const TaskShape& shape);
  const float* folded(const Task& t) const;

  const DeviceCall& call_;
  const Program& program_;
  const DeviceBank& bank_;
  const DeviceStatistics statistics_;
  std::unique_ptr<Launches> launches_;
  std::vector<Value> values_;
  at::Tensor images_, partial_;
  const Destination* to_ = nullptr;
  float* next_partial_ = nullptr;
  unsigned* next_counter_ = nullptr;
};

}  // namespace nasfast::child_eval
