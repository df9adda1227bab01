// A merged population as tasks for the CUDA kernels, and the levels in which they are computed. No torch header here.
//
// Every primitive of every node becomes one task, an inverted residual three. The level of a task is one more than the
// highest that it reads, so the tasks of a level do not see each other and go into common launches: the number of
// launches grows with the depth of the children, not with how many they are. All values of a level live at the same
// time. Where that is too much, the population is computed in parts, which compute what they share again.
#pragma once

#include "primitives.h"
#include "schedule.h"

namespace nasfast::child_eval {

enum class TaskKind : uint8_t { kImages, kConv, kDepthwise, kNorm, kSum, kConcat, kAveragePool, kMaximumPool, kHead };

struct Task {
  TaskKind kind;
  Act before = Act::kNone, after = Act::kNone;
  int32_t node = -1, level = 0;
  int32_t primitive = -1;
  int8_t weight = 0, norm = -1;  // which of the primitive's; -1: none
  bool bias = false;
  int32_t first_input = 0, inputs = 0;
  int32_t residual = -1;  // task that is added to the result
  int32_t channels = 0;   // of the result
  int kernel = 1, stride = 1, dilation = 1, halvings = 0;
  bool second_pixel = false;  // see primitives.h
  int64_t statistics = -1;    // where its normalisation's numbers are, if it has one: scale, then shift
};

struct Program {
  std::vector<Task> tasks;                           // each reads earlier ones
  std::vector<int32_t> inputs;                       // of all tasks
  std::vector<std::pair<int32_t, int32_t>> of_node;  // tasks [first, last) of each node
  int64_t statistics = 0;                            // numbers of all normalisations
  bool calibration = false;

  const int32_t* inputs_of(const Task& t) const { return inputs.data() + t.first_input; }
};

// The program that evaluates, or, with `calibration`, the one that takes the statistics of every normalisation: there a
// result is kept as it is before its normalisation. `pack`: channels that values are rounded up to.
Program make_program(const Plan& plan, const std::vector<Primitive>& primitives, const std::vector<uint8_t>& live,
                     int pack, bool calibration);

// Bytes of one value or of what is needed beside it, by task.
struct TaskBytes {
  std::vector<int64_t> value, beside;
};

struct Level {
  std::vector<int32_t> tasks;
  std::vector<int32_t> freed;  // tasks whose values nobody reads after it
};

// Some of the outputs, and all that they take.
struct Part {
  std::vector<Level> levels;
  std::vector<uint8_t> unread;  // by task of the program: nobody reads its value
  int64_t peak_bytes = 0, operations = 0;
};

// Outputs in the order of their nodes, so that neighbours share much.
std::vector<int32_t> ordered_outputs(const Plan& plan);
Part make_part(const Plan& plan, const Program& program, const TaskBytes& bytes, const int32_t* outputs, size_t count);

// As few parts as fit into `bound` bytes, by halves. Throws DoesNotFit where one output does not.
std::vector<Part> divide(const Plan& plan, const Program& program, const TaskBytes& bytes, int64_t bound);

}  // namespace nasfast::child_eval
