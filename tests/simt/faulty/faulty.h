// Tiny kernels with one mistake each, which the harness must reject, beside their corrected twins, which it must pass.
#pragma once

#include "core/launch.h"

namespace faulty {

using namespace nasfast;

inline constexpr int kBlocks = 4, kThreads = 64, kElements = kBlocks * kThreads;

// What every case works on: x is given by the caller, y and work are fresh, counter is 0.
struct Buffers {
  const float* x;  // kElements
  float* y;        // kElements
  float* work;     // kElements
  unsigned* counter;
};

struct Case {
  using Run = void (*)(const Buffers&);
  const char* name;
  Run wrong, right;
  const Case* next;

  Case(const char* name_, Run wrong_, Run right_) : name(name_), wrong(wrong_), right(right_), next(first) {
    first = this;
  }
  static inline const Case* first = nullptr;
};

template <class Kernel>
void start(const char* name, Kernel kernel, const Buffers& b, size_t shared = 0, int blocks = kBlocks,
           int threads = kThreads) {
  launch({name, make_grid(name, blocks), dim3(threads), shared, nullptr}, kernel, b);
}

// A case whose kernel is a template over whether it is right.
#define FAULTY_CASE(name, shared)                                            \
  const Case name##_case(                                                    \
      #name, [](const Buffers& b) { start(#name, name<false>, b, shared); }, \
      [](const Buffers& b) { start(#name, name<true>, b, shared); })

}  // namespace faulty
