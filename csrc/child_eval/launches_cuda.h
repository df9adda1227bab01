// Collects tasks until a launch is full, or its level is.
#pragma once

#include <cstring>

#include "../aten/device_call.h"
#include "../core/grid.h"
#include "kernels_cuda.h"

namespace nasfast::child_eval {

// Number of a shape in a launch's table, which it is added to; -1: there is no room for it.
inline int16_t shape_number(TaskShape (&table)[kMaxShapes], int& count, const TaskShape& shape) {
  for (int i = count; i-- > 0;)
    if (std::memcmp(&table[i], &shape, sizeof(TaskShape)) == 0) return static_cast<int16_t>(i);
  if (count == kMaxShapes) return -1;
  table[count] = shape;
  return static_cast<int16_t>(count++);
}

// Args has N, tasks, shape and task; `launch(args, blocks)` runs them.
template <class Args, int CAPACITY, class Launch>
class TaskList {
 public:
  explicit TaskList(Launch launch) : launch_(std::move(launch)) {}

  void start(int64_t images) { args_.N = checked_int("child_eval", "images", images); }
  Args& args() { return args_; }

  template <class Task>
  void add(Task task, const TaskShape& shape, int64_t blocks) {
    int16_t number =
        args_.tasks == CAPACITY || blocks_ + blocks > kMaxInt ? int16_t{-1} : shape_number(args_.shape, shapes_, shape);
    if (number < 0) {
      flush();
      number = shape_number(args_.shape, shapes_, shape);
    }
    task.shape = number;
    task.block = checked_int("child_eval", "blocks", blocks_);
    args_.task[args_.tasks++] = task;
    blocks_ += blocks;
  }

  void flush() {
    if (args_.tasks > 0) launch_(args_, blocks_);
    args_.tasks = shapes_ = 0;
    blocks_ = 0;
  }

 private:
  Launch launch_;
  Args args_{};
  int shapes_ = 0;
  int64_t blocks_ = 0;
};

}  // namespace nasfast::child_eval
