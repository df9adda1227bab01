#include "fiber.h"

#include <sys/mman.h>
#include <unistd.h>

#include <cstdint>
#include <new>

#if defined(__x86_64__) && !defined(NASFAST_SIMT_UCONTEXT)
#define NASFAST_SIMT_SWITCH 1
#else
#include <ucontext.h>
#endif

#if defined(__SANITIZE_ADDRESS__)
#include <sanitizer/asan_interface.h>
#include <sanitizer/common_interface_defs.h>
#endif

namespace simt {
namespace {

#if defined(__SANITIZE_ADDRESS__)
constexpr size_t kStackBytes = 512 * 1024;  // instrumented frames are several times larger
#else
constexpr size_t kStackBytes = 128 * 1024;
#endif

// Memory of a stack, with a page below that stops an overflow.
class Stack {
 public:
  Stack() : guard_(static_cast<size_t>(sysconf(_SC_PAGESIZE))) {
    void* p = mmap(nullptr, guard_ + kStackBytes, PROT_READ | PROT_WRITE,
                   MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE | MAP_STACK, -1, 0);
    if (p == MAP_FAILED) throw std::bad_alloc();
    base_ = static_cast<unsigned char*>(p);
    mprotect(base_, guard_, PROT_NONE);
  }
  ~Stack() { munmap(base_, guard_ + kStackBytes); }
  Stack(const Stack&) = delete;
  Stack& operator=(const Stack&) = delete;

  unsigned char* bottom() const { return base_ + guard_; }
  unsigned char* top() const { return bottom() + kStackBytes; }

 private:
  size_t guard_;
  unsigned char* base_;
};

#if defined(NASFAST_SIMT_SWITCH)

// Saves the registers that a call must keep on the old stack, and takes them from the new one. A few nanoseconds, where
// swapcontext makes two system calls.
extern "C" void nasfast_simt_switch(void** old_stack, void* new_stack);
asm(R"(
.text
.p2align 4
.local nasfast_simt_switch
.type nasfast_simt_switch, @function
nasfast_simt_switch:
  pushq %rbp
  pushq %rbx
  pushq %r12
  pushq %r13
  pushq %r14
  pushq %r15
  movq %rsp, (%rdi)
  movq %rsi, %rsp
  popq %r15
  popq %r14
  popq %r13
  popq %r12
  popq %rbx
  popq %rbp
  ret
.size nasfast_simt_switch, .-nasfast_simt_switch
)");

struct Context {
  void* stack = nullptr;

  void prepare(const Stack& memory, Fiber::Entry entry) {
    auto** top = reinterpret_cast<void**>(memory.top());
    *--top = nullptr;  // where entry would return to: ends a backtrace
    *--top = reinterpret_cast<void*>(entry);
    for (int i = 0; i < 6; ++i) *--top = nullptr;
    stack = top;
  }
  void switch_to(Context& other) { nasfast_simt_switch(&stack, other.stack); }
};

#else

struct Context {
  ucontext_t context;

  void prepare(const Stack& memory, Fiber::Entry entry) {
    getcontext(&context);
    context.uc_stack.ss_sp = memory.bottom();
    context.uc_stack.ss_size = kStackBytes;
    context.uc_link = nullptr;
    makecontext(&context, entry, 0);
  }
  void switch_to(Context& other) { swapcontext(&context, &other.context); }
};

#endif

}  // namespace

struct Fiber::State {
  Stack stack;
  Context inside, outside;
  // For AddressSanitizer: the stack of whoever entered.
  const void* outer_bottom = nullptr;
  size_t outer_size = 0;
};

Fiber::Fiber() : state_(new State) {}
Fiber::~Fiber() = default;
Fiber::Fiber(Fiber&&) noexcept = default;

void Fiber::start(Entry entry) {
  abandon();  // what ran here before has left its frames by a switch, not by returning
  state_->inside.prepare(state_->stack, entry);
}

#if defined(__SANITIZE_ADDRESS__)

void Fiber::abandon() { ASAN_UNPOISON_MEMORY_REGION(state_->stack.bottom(), kStackBytes); }
void Fiber::enter() {
  void* own = nullptr;
  __sanitizer_start_switch_fiber(&own, state_->stack.bottom(), kStackBytes);
  state_->outside.switch_to(state_->inside);
  __sanitizer_finish_switch_fiber(own, nullptr, nullptr);
}
void Fiber::leave() {
  void* own = nullptr;
  __sanitizer_start_switch_fiber(&own, state_->outer_bottom, state_->outer_size);
  state_->inside.switch_to(state_->outside);
  __sanitizer_finish_switch_fiber(own, &state_->outer_bottom, &state_->outer_size);
}
void Fiber::arrived() { __sanitizer_finish_switch_fiber(nullptr, &state_->outer_bottom, &state_->outer_size); }

#else

void Fiber::abandon() {}
void Fiber::enter() { state_->outside.switch_to(state_->inside); }
void Fiber::leave() { state_->inside.switch_to(state_->outside); }
void Fiber::arrived() {}

#endif

}  // namespace simt
