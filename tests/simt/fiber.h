// Stacks of their own for the threads of a block, and the switch between them.
#pragma once

#include <cstddef>
#include <memory>
#include <vector>

namespace simt {

class Fiber {
 public:
  using Entry = void (*)();

  Fiber();
  ~Fiber();
  Fiber(Fiber&&) noexcept;
  Fiber& operator=(Fiber&&) = delete;

  // Forgets what runs here unfinished, which AddressSanitizer would otherwise remember of the stack.
  void abandon();
  // The next enter() begins at `entry`, which never returns.
  void start(Entry entry);
  // Runs this fiber until it leaves.
  void enter();
  // Called on this fiber: back to whoever entered it.
  void leave();
  // The first thing a fiber does.
  void arrived();

 private:
  struct State;
  std::unique_ptr<State> state_;
};

}  // namespace simt
