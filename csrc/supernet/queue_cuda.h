// Launches of a call, collected on the host: their tables go to the device in one upload, then all are queued on the
// current stream. Nothing waits for the device.
#pragma once

#include <cstring>
#include <functional>
#include <vector>

#include "../aten/device_call.h"
#include "../core/grid.h"
#include "kernels_cuda.h"

namespace nasfast::supernet {

// Tasks of one launch.
template <class Task>
struct TaskList {
  std::vector<Task> tasks;
  int64_t blocks = 0;

  void add(Task task, int64_t of_task) {
    if (of_task == 0) return;
    task.block = checked_int("supernet_paths", "blocks of a launch", blocks);
    blocks += of_task;
    tasks.push_back(task);
  }
};

// What tasks of several kinds refer to by number, on the device.
struct Lists {
  const Source* terms;
  const Member* members;
  const Partial* partials;
  const PartTask* parts;
  const BatchStatistics* uses;
};

class Queue {
 public:
  // run(table, lists, blocks) when all is uploaded. Empties the list; an empty one is no launch.
  template <class Task, class Run>
  void launch(TaskList<Task>& list, Run run) {
    if (list.tasks.empty()) return;
    const size_t at = append(list.tasks);
    const int count = checked_int("supernet_paths", "tasks of a launch", static_cast<int64_t>(list.tasks.size()));
    launches_.push_back([=, blocks = list.blocks](const uint8_t* base, const Lists& lists) {
      run(Table<Task>{reinterpret_cast<const Task*>(base + at), count}, lists, blocks);
    });
    list = {};
  }

  // Adds to a list; returns the number of the first.
  template <class T>
  static int extend(std::vector<T>& list, const std::vector<T>& more) {
    const int first = checked_int("supernet_paths", "entries of a list", static_cast<int64_t>(list.size()));
    list.insert(list.end(), more.begin(), more.end());
    return first;
  }

  void run(const DeviceCall& call) {
    if (launches_.empty()) return;
    const size_t at[] = {append(terms), append(members), append(partials), append(parts), append(uses)};
    const at::Tensor table = call.upload(bytes_.data(), static_cast<int64_t>(bytes_.size()));
    const uint8_t* base = call.read<uint8_t>(table);
    const Lists lists{reinterpret_cast<const Source*>(base + at[0]), reinterpret_cast<const Member*>(base + at[1]),
                      reinterpret_cast<const Partial*>(base + at[2]), reinterpret_cast<const PartTask*>(base + at[3]),
                      reinterpret_cast<const BatchStatistics*>(base + at[4])};
    for (const auto& launch : launches_) launch(base, lists);
  }

  std::vector<Source> terms;
  std::vector<Member> members;
  std::vector<Partial> partials;
  std::vector<PartTask> parts;
  std::vector<BatchStatistics> uses;

 private:
  template <class T>
  size_t append(const std::vector<T>& items) {
    static_assert(sizeof(T) % 8 == 0);  // so that all begin at a multiple of 8
    const size_t at = bytes_.size(), more = items.size() * sizeof(T);
    bytes_.resize(at + more);
    if (more > 0) std::memcpy(bytes_.data() + at, items.data(), more);
    return at;
  }

  std::vector<uint8_t> bytes_;
  std::vector<std::function<void(const uint8_t*, const Lists&)>> launches_;
};

}  // namespace nasfast::supernet
