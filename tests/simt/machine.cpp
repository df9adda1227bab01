#include "machine.h"

#include <sys/mman.h>

#include <cstring>
#include <exception>
#include <mutex>
#include <numeric>
#include <utility>

#include "core/grid.h"
#include "counts.h"
#include "fiber.h"
#include "half.h"
#include "simt.h"
#include "state.h"

namespace simt {
namespace {

enum class Place { kRunning, kBarrier, kWarp, kExited };

struct Thread {
  Place place = Place::kRunning;
  Site site = {};     // where it waits
  unsigned mask = 0;  // of the warp operation it waits at
  int result = 0;     // buffer of its warp that holds what the operation gave
};

// What the lanes of a completed operation take away; free again when all have.
struct Exchanged {
  alignas(16) unsigned char slots[kWarp * kSlotBytes];
  int takers = 0;
};

struct Warp {
  unsigned waiting = 0, exited = 0;  // lanes
  Stamp floor = 0;                   // last barrier of the warp as a whole
  alignas(16) unsigned char slots[kWarp * kSlotBytes];
  Exchanged exchanged[kWarp];
};

struct SharedTake {
  size_t offset, first_cell, element_bytes;
  int count;
  bool operator==(const SharedTake&) const = default;
};

class Machine {
 public:
  void run(const char* name, dim3 grid, dim3 block, size_t shared_bytes, Call call, const void* context);
  void set_seed(uint64_t seed) {
    seed_ = seed;
    launch_number_ = 0;
  }

  [[noreturn]] void fail(const std::string& message) const;
  int lane() const { return thread_ % kWarp; }
  void barrier(const Site& site);
  void exchange(unsigned mask, const void* own, void* all, size_t bytes, const Site& site, bool fence = false);
  bool last_block(unsigned* counter, unsigned blocks, const Site& site);
  SharedPiece take_shared(int index, size_t offset, size_t first_cell, int count, size_t element_bytes);

  std::string lane_text(int warp, int lane) const;
  std::string cell_text(const Cell* cell) const;
  std::vector<Launch> launches;
  Grid grid;
  int thread_ = 0;

 private:
  static void fiber_main();
  void prepare(const char* name, dim3 grid_size, dim3 block, size_t shared_bytes);
  void run_block(unsigned linear);
  void resume(int thread);
  void wait();
  void exit_thread();
  void complete_exchange(int warp, unsigned mask, size_t bytes, const Site& site);
  void deadlock();
  bool take_ticket(unsigned* counter, unsigned blocks);
  void check_counters() const;
  void record();
  int size() const { return static_cast<int>(grid.block.x * grid.block.y * grid.block.z); }
  Stamp tick() { return ++clock_ << kClockShift; }
  void set_stamps();
  uint64_t random();

  std::vector<Fiber> fibers_;
  std::vector<Thread> threads_;
  std::vector<Warp> warps_;
  std::vector<Index3> indices_;
  std::vector<uint16_t> ready_;
  int waiting_ = 0, exited_ = 0;
  Site barrier_site_ = {};
  bool ticket_taken_ = false, is_last_ = false;
  std::exception_ptr error_;
  Call call_ = nullptr;
  const void* context_ = nullptr;
  bool running_ = false;
  unsigned block_ = 0;

  std::vector<SharedTake> takes_;
  unsigned char* shared_ = nullptr;
  Cell* shared_cells_ = nullptr;

  uint64_t clock_ = 1;  // the host's stamp is 1
  uint64_t seed_ = 0, launch_number_ = 0, random_ = 1;
};

Machine& machine() {
  static auto* instance = new Machine;
  return *instance;
}

std::string triple(unsigned x, unsigned y, unsigned z) {
  return "(" + std::to_string(x) + ", " + std::to_string(y) + ", " + std::to_string(z) + ")";
}

bool same(const Site& a, const Site& b) {
  return a.line == b.line && std::strcmp(a.what, b.what) == 0 && std::strcmp(a.file, b.file) == 0;
}

uint64_t Machine::random() {  // xorshift64*
  random_ ^= random_ >> 12;
  random_ ^= random_ << 25;
  random_ ^= random_ >> 27;
  return (random_ * 0x2545f4914f6cdd1dull) >> 32;
}

void Machine::fail(const std::string& message) const {
  if (!running_) throw Error("simt: " + message);
  throw Error("simt: kernel '" + grid.name + "', " + block_text(block_) + ", " + thread_text(thread_) + ": " + message);
}

void Machine::prepare(const char* name, dim3 grid_size, dim3 block, size_t shared_bytes) {
  grid.name = name;
  grid.grid = grid_size;
  grid.block = block;
  grid.shared_bytes = shared_bytes;
  grid.block_floors.clear();
  grid.releases.clear();
  grid.order.resize(size_t{grid_size.x} * grid_size.y * grid_size.z);
  std::iota(grid.order.begin(), grid.order.end(), 0u);
  random_ = (seed_ + 1) * 0x9e3779b97f4a7c15ull ^ ++launch_number_ * 0xbf58476d1ce4e5b9ull;
  if (random_ == 0) random_ = 1;
  for (size_t i = grid.order.size(); i > 1; --i) std::swap(grid.order[i - 1], grid.order[random() % i]);

  const auto threads = static_cast<size_t>(size());
  while (fibers_.size() < threads) fibers_.emplace_back();
  threads_.resize(threads);
  warps_.resize((threads + kWarp - 1) / kWarp);
  indices_.clear();
  for (unsigned z = 0; z < block.z; ++z)
    for (unsigned y = 0; y < block.y; ++y)
      for (unsigned x = 0; x < block.x; ++x) indices_.push_back({x, y, z});
  if (!shared_cells_) {
    void* p = mmap(nullptr, kMaxSharedBytes * sizeof(Cell), PROT_READ | PROT_WRITE,
                   MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (p == MAP_FAILED) throw std::bad_alloc();
    shared_cells_ = static_cast<Cell*>(p);
  }
  now = Now();
  now.launch_floor = tick();
  gridDim = grid_size;
  blockDim = block;
}

void Machine::run(const char* name, dim3 grid_size, dim3 block, size_t shared_bytes, Call call, const void* context) {
  static std::mutex mutex;
  std::lock_guard<std::mutex> lock(mutex);
  prepare(name, grid_size, block, shared_bytes);
  call_ = call;
  context_ = context;
  // Exactly as large as asked for, so that AddressSanitizer sees its end.
  std::unique_ptr<unsigned char, decltype(&std::free)> shared(
      static_cast<unsigned char*>(std::aligned_alloc(16, std::max<size_t>(16, (shared_bytes + 15) / 16 * 16))),
      &std::free);
  shared_ = shared.get();
  running_ = true;
  try {
    for (unsigned linear : grid.order) run_block(linear);
    check_counters();
  } catch (...) {
    running_ = false;
    for (Fiber& fiber : fibers_) fiber.abandon();
    throw;
  }
  running_ = false;
  record();
}

void Machine::run_block(unsigned linear) {
  block_ = linear;
  const unsigned x = linear % grid.grid.x, rest = linear / grid.grid.x;
  blockIdx = {x, rest % grid.grid.y, rest / grid.grid.y};
  now.block_floor = now.barrier_floor = tick();
  grid.block_floors.push_back(now.block_floor);
  grid.acquired.clear();
  std::fill(threads_.begin(), threads_.end(), Thread());
  for (Warp& warp : warps_) {
    warp.waiting = warp.exited = 0;
    warp.floor = now.block_floor;
    for (Exchanged& e : warp.exchanged) e.takers = 0;
  }
  waiting_ = exited_ = 0;
  ticket_taken_ = is_last_ = false;
  takes_.clear();
  ready_.clear();
  for (int t = 0; t < size(); ++t) {
    fibers_[t].start(&Machine::fiber_main);
    ready_.push_back(static_cast<uint16_t>(t));
  }
  while (!ready_.empty()) {
    const size_t pick = random() % ready_.size();
    const int thread = ready_[pick];
    ready_[pick] = ready_.back();
    ready_.pop_back();
    resume(thread);
    if (error_) std::rethrow_exception(std::exchange(error_, nullptr));
  }
  if (exited_ != size()) deadlock();
}

void Machine::set_stamps() {
  const Stamp clock = clock_ << kClockShift;
  now.thread = static_cast<Stamp>(thread_);
  now.stamp = clock | now.thread;
  now.several_lanes = clock | (kSeveralLanes + now.thread / kWarp);
  now.several_warps = clock | kSeveralWarps;
  now.warp_floor = warps_[thread_ / kWarp].floor;
}

void Machine::resume(int thread) {
  thread_ = thread;
  threadIdx = indices_[thread];
  threads_[thread].place = Place::kRunning;
  set_stamps();
  fibers_[thread].enter();
}

void Machine::fiber_main() {
  Machine& m = machine();
  m.fibers_[m.thread_].arrived();
  try {
    m.call_(m.context_);
    m.exit_thread();
  } catch (...) {
    m.error_ = std::current_exception();
  }
  m.fibers_[m.thread_].leave();
}

void Machine::wait() { fibers_[thread_].leave(); }

void Machine::exit_thread() {
  if (waiting_ > 0)
    fail("divergent barrier: this thread exits while " + std::to_string(waiting_) + " others wait at " +
         to_text(barrier_site_));
  threads_[thread_].place = Place::kExited;
  warps_[thread_ / kWarp].exited |= 1u << lane();
  ++exited_;
}

void Machine::barrier(const Site& site) {
  if (exited_ > 0)
    fail("divergent barrier: this thread reaches " + to_text(site) + ", but " + std::to_string(exited_) +
         " threads of its block have exited");
  if (waiting_ > 0 && !same(site, barrier_site_))
    fail("divergent barrier: this thread reaches " + to_text(site) + " while " + std::to_string(waiting_) +
         " others wait at " + to_text(barrier_site_));
  barrier_site_ = site;
  threads_[thread_].place = Place::kBarrier;
  threads_[thread_].site = site;
  if (++waiting_ == size()) {
    waiting_ = 0;
    now.barrier_floor = tick();
    for (int t = 0; t < size(); ++t) ready_.push_back(static_cast<uint16_t>(t));
  }
  wait();
}

std::string Machine::lane_text(int warp, int lane) const {
  const int thread = warp * kWarp + lane;
  const std::string name = "lane " + std::to_string(lane);
  if (thread >= size()) return name + ", which the block does not have";
  const Thread& t = threads_[thread];
  if (t.place == Place::kExited) return name + ", which has exited";
  if (t.place == Place::kRunning) return name;
  return name + ", which waits at " + to_text(t.site);
}

// `fence`: accesses of the warp's lanes before come before their accesses after.
void Machine::exchange(unsigned mask, const void* own, void* all, size_t bytes, const Site& site, bool fence) {
  const int index = thread_ / kWarp;
  Warp& warp = warps_[index];
  Thread& thread = threads_[thread_];
  if (!(mask >> lane() & 1u)) fail("divergent warp: the mask of " + to_text(site) + " leaves out the calling lane");
  const int lanes = std::min(kWarp, size() - index * kWarp);
  const unsigned existing = lanes == kWarp ? ~0u : (1u << lanes) - 1;
  const unsigned gone = mask & (warp.exited | ~existing);
  if (gone) fail("divergent warp: " + to_text(site) + " needs " + lane_text(index, __builtin_ctz(gone)));
  std::memcpy(warp.slots + static_cast<size_t>(lane()) * bytes, own, bytes);
  warp.waiting |= 1u << lane();
  thread.place = Place::kWarp;
  thread.mask = mask;
  thread.site = site;
  if ((warp.waiting & mask) == mask) {
    complete_exchange(index, mask, bytes, site);
    if (fence && mask == existing) warp.floor = tick();
  }
  wait();
  Exchanged& result = warp.exchanged[thread.result];
  std::memcpy(all, result.slots, kWarp * bytes);
  --result.takers;
}

void Machine::complete_exchange(int index, unsigned mask, size_t bytes, const Site& site) {
  Warp& warp = warps_[index];
  int buffer = 0;
  while (warp.exchanged[buffer].takers > 0) ++buffer;  // at most 32 groups of lanes: one is free
  for (int l = 0; l < kWarp; ++l) {
    if (!(mask >> l & 1u)) continue;
    Thread& other = threads_[index * kWarp + l];
    if (other.mask != mask || !same(other.site, site))
      fail("divergent warp: this thread is at " + to_text(site) + " and needs " + lane_text(index, l));
    other.result = buffer;
    ready_.push_back(static_cast<uint16_t>(index * kWarp + l));
  }
  Exchanged& result = warp.exchanged[buffer];
  std::memcpy(result.slots, warp.slots, kWarp * bytes);
  result.takers = __builtin_popcount(mask);
  warp.waiting &= ~mask;
}

void Machine::deadlock() {
  for (int t = 0; t < size(); ++t) {
    const Thread& thread = threads_[t];
    if (thread.place != Place::kWarp) continue;
    thread_ = t;
    const unsigned absent = thread.mask & ~warps_[t / kWarp].waiting;
    fail("divergent warp: this thread waits at " + to_text(thread.site) + " for " +
         lane_text(t / kWarp, __builtin_ctz(absent)));
  }
  for (int t = 0; t < size(); ++t) {
    if (threads_[t].place != Place::kBarrier) continue;
    thread_ = t;
    fail("divergent barrier: this thread waits at " + to_text(threads_[t].site) + " for ever");
  }
}

bool Machine::take_ticket(unsigned* counter, unsigned blocks) {
  global_atomic(counter, sizeof(*counter));
  if (*counter >= blocks)
    fail("last_block: the counter holds " + std::to_string(*counter) + " before this block, of " +
         std::to_string(blocks) + " blocks");
  grid.releases.push_back({counter, block_, now.barrier_floor});
  if (++*counter < blocks) return false;
  *counter = 0;
  grid.acquired.push_back(counter);
  return true;
}

bool Machine::last_block(unsigned* counter, unsigned blocks, const Site& site) {
  barrier(site);
  if (!ticket_taken_) {
    ticket_taken_ = true;
    is_last_ = take_ticket(counter, blocks);
  }
  const bool last = is_last_;
  barrier({"the end of last_block", site.file, site.line});
  ticket_taken_ = false;
  return last;
}

void Machine::check_counters() const {
  for (const Release& r : grid.releases)
    if (*r.counter != 0)
      throw Error("simt: kernel '" + grid.name + "': last_block: a counter holds " + std::to_string(*r.counter) +
                  " when the launch ends: more blocks were announced than came");
}

SharedPiece Machine::take_shared(int index, size_t offset, size_t first_cell, int count, size_t element_bytes) {
  if (count < 0) fail("SharedArena: a piece must have 0 or more elements, got " + std::to_string(count));
  const SharedTake take = {offset, first_cell, element_bytes, count};
  if (static_cast<size_t>(index) == takes_.size()) {
    takes_.push_back(take);
    const size_t end = offset + element_bytes * static_cast<size_t>(count);
    if (end > grid.shared_bytes)
      fail("SharedArena: the kernel takes at least " + std::to_string(end) +
           " bytes of shared memory, the launch gave " + std::to_string(grid.shared_bytes));
  } else if (static_cast<size_t>(index) > takes_.size() || !(take == takes_[index])) {
    fail("SharedArena: every thread must take the same pieces in the same order, from one arena; piece " +
         std::to_string(index) + " differs");
  }
  return {shared_ + offset, shared_cells_ + first_cell};
}

std::string Machine::cell_text(const Cell* cell) const {
  const auto index = static_cast<size_t>(cell - shared_cells_);
  for (size_t i = 0; i < takes_.size(); ++i)
    if (index >= takes_[i].first_cell && index < takes_[i].first_cell + static_cast<size_t>(takes_[i].count))
      return "element " + std::to_string(index - takes_[i].first_cell) + " of shared memory piece " + std::to_string(i);
  return "shared memory";
}

void Machine::record() {
  launches.push_back({grid.name, grid.grid, grid.block, grid.shared_bytes, now.bytes_read, now.bytes_written,
                      now.unique_read, now.unique_written});
}

}  // namespace

[[noreturn]] void fail(const std::string& message) { machine().fail(message); }

std::string to_text(const Site& site) {
  const char* slash = std::strrchr(site.file, '/');
  if (site.line == 0) return site.what;
  return std::string(site.what) + " (" + (slash ? slash + 1 : site.file) + ":" + std::to_string(site.line) + ")";
}

void run_grid(const char* name, dim3 grid, dim3 block, size_t shared_bytes, Call call, const void* context) {
  machine().run(name, grid, block, shared_bytes, call, context);
}

int lane_id() { return machine().lane(); }
void block_barrier(const Site& site) { machine().barrier(site); }
bool last_block(unsigned* counter, unsigned blocks, const Site& site) {
  return machine().last_block(counter, blocks, site);
}
void exchange(unsigned mask, const void* own, void* all, size_t bytes, const Site& site) {
  machine().exchange(mask, own, all, bytes, site);
}
void warp_barrier(unsigned mask, const Site& site) {
  char nothing = 0;
  machine().exchange(mask, &nothing, &nothing, 0, site, true);
}
unsigned ballot(unsigned mask, bool predicate, const Site& site) {
  uint8_t votes[kWarp];
  const uint8_t own = predicate;
  machine().exchange(mask, &own, votes, 1, site);
  unsigned result = 0;
  for (int l = 0; l < kWarp; ++l)
    if (mask >> l & 1u) result |= static_cast<unsigned>(votes[l]) << l;
  return result;
}
void bad_shuffle(unsigned mask, int source, const Site& site) {
  char text[16];
  snprintf(text, sizeof(text), "0x%x", mask);
  fail(to_text(site) + " reads lane " + std::to_string(source) + ", which the mask " + text + " leaves out");
}
SharedPiece take_shared(int index, size_t offset, size_t first_cell, int count, size_t element_bytes) {
  return machine().take_shared(index, offset, first_cell, count, element_bytes);
}

std::vector<Launch>& launches() { return machine().launches; }
void set_seed(uint64_t seed) { machine().set_seed(seed); }

const Grid& running_grid() { return machine().grid; }
std::string thread_text(int thread) {
  const dim3 block = machine().grid.block;
  const unsigned t = static_cast<unsigned>(thread);
  return "thread " + triple(t % block.x, t / block.x % block.y, t / block.x / block.y);
}
std::string block_text(unsigned linear) {
  const dim3 grid = machine().grid.grid;
  return "block " + triple(linear % grid.x, linear / grid.x % grid.y, linear / grid.x / grid.y);
}
std::string shared_cell_text(const Cell* cell) { return machine().cell_text(cell); }

}  // namespace simt
