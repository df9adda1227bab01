#include "access.h"

#include <algorithm>

#include "registry.h"
#include "state.h"

namespace simt {

Now now;

namespace {

Stamp thread_of(Stamp stamp) { return stamp & kThreadMask; }

// The running block was last at a counter that the block of `stamp` had passed after this access.
bool acquired(Stamp stamp) {
  const Grid& grid = running_grid();
  const auto after = std::upper_bound(grid.block_floors.begin(), grid.block_floors.end(), stamp);
  const unsigned block = grid.order[static_cast<size_t>(after - grid.block_floors.begin()) - 1];
  return std::any_of(grid.releases.begin(), grid.releases.end(), [&](const Release& r) {
    return r.block == block && stamp < r.until &&
           std::find(grid.acquired.begin(), grid.acquired.end(), r.counter) != grid.acquired.end();
  });
}

bool in_own_warp(Stamp thread) {
  return thread < kSeveralLanes ? thread / kWarp == now.thread / kWarp : thread == thread_of(now.several_lanes);
}

// Whether that access is certain to come before one the running thread makes now.
bool ordered(Stamp stamp) {
  if (stamp < now.launch_floor) return true;
  if (stamp < now.block_floor) return acquired(stamp);
  if (stamp < now.barrier_floor || thread_of(stamp) == now.thread) return true;
  return in_own_warp(thread_of(stamp)) && stamp < now.warp_floor;
}

std::string who(Stamp stamp) {
  const Grid& grid = running_grid();
  if (stamp < now.block_floor) {
    const auto after = std::upper_bound(grid.block_floors.begin(), grid.block_floors.end(), stamp);
    return block_text(grid.order[static_cast<size_t>(after - grid.block_floors.begin()) - 1]);
  }
  const Stamp thread = thread_of(stamp);
  if (thread < kSeveralLanes) return thread_text(static_cast<int>(thread));
  if (thread == kAtomic) return "an atomic operation";
  if (thread == kSeveralWarps) return "several threads";
  return "several threads of warp " + std::to_string(thread - kSeveralLanes);
}

std::string missing(Stamp stamp) {
  if (stamp < now.block_floor) return "in the same launch (blocks run in any order; see last_block)";
  return "with no barrier between";
}

[[noreturn]] void race(const char* verb, const std::string& place, const char* earlier, Stamp stamp) {
  const char* kind = stamp < now.block_floor ? "race between blocks: " : "race: ";
  fail(kind + (verb + (" of " + place)) + " that " + who(stamp) + " " + earlier + " " + missing(stamp));
}

std::string place_of(const Allocation* allocation, const Cell* cell) {
  const size_t byte = static_cast<size_t>(cell - allocation->cells.get()) << allocation->shift;
  return "byte " + std::to_string(byte) + " of " + allocation->label;
}

// A read stamp for now that keeps what an earlier reader still means to later writers.
Stamp merged_read(Stamp before) {
  const Stamp foreign = before >= now.launch_floor && ((before & kForeign) || before < now.block_floor) ? kForeign : 0;
  if (before < now.block_floor || ordered(before)) return now.stamp | foreign;
  return (in_own_warp(thread_of(before)) ? now.several_lanes : now.several_warps) | foreign;
}

void check_written(Allocation* allocation, Cell* cell) {
  if (cell->write != kNever) return;
  if (!host_wrote(allocation, cell)) fail("read of " + place_of(allocation, cell) + ", which nobody has written yet");
  cell->write = kByHost;
}

void check_readers(Allocation* allocation, Cell* cell, const char* verb) {
  if (cell->read < now.launch_floor) return;
  if ((cell->read & kForeign) && running_grid().acquired.empty())
    fail(std::string("race between blocks: ") + verb + " of " + place_of(allocation, cell) +
         " that another block reads in the same launch");
  if (!ordered(cell->read)) race(verb, place_of(allocation, cell), "reads", cell->read);
}

}  // namespace

void slow_read(Allocation* allocation, Cell* cell) {
  check_written(allocation, cell);
  if (!ordered(cell->write)) race("read", place_of(allocation, cell), "writes", cell->write);
  if (cell->read < now.launch_floor) now.unique_read += size_t{1} << allocation->shift;
  cell->read = merged_read(cell->read);
}

void slow_write(Allocation* allocation, Cell* cell) {
  if (!ordered(cell->write)) race("write", place_of(allocation, cell), "writes", cell->write);
  check_readers(allocation, cell, "write");
  if (cell->write < now.launch_floor) now.unique_written += size_t{1} << allocation->shift;
  cell->write = now.stamp;
}

void slow_atomic(Allocation* allocation, Cell* cell) {
  check_written(allocation, cell);
  const bool first = cell->write < now.launch_floor;
  if (!first && thread_of(cell->write) != kAtomic && !ordered(cell->write))
    race("atomic update", place_of(allocation, cell), "writes without", cell->write);
  check_readers(allocation, cell, "atomic update");
  if (first) {
    now.unique_read += size_t{1} << allocation->shift;
    now.unique_written += size_t{1} << allocation->shift;
  }
  cell->write = now.stamp >> kClockShift << kClockShift | kAtomic;
}

// ---- shared memory --------------------------------------------------------------------------------------------------

void slow_shared_read(Cell* cell) {
  if (cell->write < now.block_floor) fail("read of " + shared_cell_text(cell) + ", which nobody has written yet");
  if (!ordered(cell->write)) race("read", shared_cell_text(cell), "writes", cell->write);
  cell->read = cell->read < now.block_floor ? now.stamp : merged_read(cell->read);
}

void slow_shared_write(Cell* cell) {
  if (cell->write >= now.block_floor && !ordered(cell->write))
    race("write", shared_cell_text(cell), "writes", cell->write);
  if (cell->read >= now.block_floor && !ordered(cell->read)) race("write", shared_cell_text(cell), "reads", cell->read);
  cell->write = now.stamp;
}

void shared_out_of_bounds(int index, int elements, int count, size_t element_bytes) {
  const std::string last = elements > 1 ? " to " + std::to_string(index + elements - 1) : "";
  fail("access to element " + std::to_string(index) + last + " of a piece of shared memory is out of bounds: it has " +
       std::to_string(count) + " elements of " + std::to_string(element_bytes) + " bytes");
}

void shared_misaligned(int index, int elements, size_t bytes) {
  fail("access to elements " + std::to_string(index) + " to " + std::to_string(index + elements - 1) +
       " of a piece of shared memory is misaligned: the address must be a multiple of " + std::to_string(bytes));
}

}  // namespace simt
