// What is remembered of memory, and the checks of an access against it.
//
// A stamp says when and by whom: clock << 12 | foreign << 11 | thread. The clock ticks at every launch, block, barrier
// and warp barrier, and never goes back; blocks run one after the other, so that a clock also names the block. An
// allocation of global memory has one cell per granule, the smallest access it has seen (16 bytes at first); shared
// memory has one cell per element.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <string>

#include "machine.h"

namespace simt {

using Stamp = uint64_t;
inline constexpr int kClockShift = 12;
inline constexpr Stamp kForeign = 1u << 11;  // in a read stamp: a block that ran before has read it too, in this launch
inline constexpr Stamp kThreadMask = kForeign - 1;
// Beside the threads 0 to 1023, a stamp can name:
inline constexpr Stamp kSeveralLanes = 1024;  // + warp: several of its lanes
inline constexpr Stamp kAtomic = 2046;        // an atomic operation
inline constexpr Stamp kSeveralWarps = 2047;
inline constexpr Stamp kNever = 0, kByHost = 1 << kClockShift;

struct Cell {
  Stamp write = kNever, read = kNever;
};

struct Allocation {
  uintptr_t base = 0;
  size_t bytes = 0;
  int shift = 4;  // log2 of the granule
  bool read_only = false;
  bool borrowed = false;  // known while `holders` calls run
  int holders = 0;
  std::string label;
  std::unique_ptr<Cell[]> cells;
};

// What the checks of the running thread compare with.
struct Now {
  Stamp stamp = 0;          // of an access that is made now
  Stamp launch_floor = 0;   // a stamp below: from an earlier launch, or the host
  Stamp block_floor = 0;    // below: from another block
  Stamp barrier_floor = 0;  // below: before the block's last barrier
  Stamp warp_floor = 0;     // below: before the last barrier of the thread's warp
  Stamp thread = 0;
  Stamp several_lanes = 0, several_warps = 0;  // read stamps of now that name more than one thread
  uint64_t bytes_read = 0, bytes_written = 0, unique_read = 0, unique_written = 0;
};
extern Now now;

// A cache from address to allocation, so that an access need not search.
inline constexpr int kPageShift = 9, kPages = 8192;
extern Allocation* pages[kPages];

// Finds the allocation that holds [p, p + bytes), or fails with what is nearest.
Allocation* find_allocation(uintptr_t address, size_t bytes, const char* verb);
void refine(Allocation* allocation, size_t granule);
[[noreturn]] void misaligned(uintptr_t address, size_t bytes, const char* verb);

void slow_read(Allocation* allocation, Cell* cell);
void slow_write(Allocation* allocation, Cell* cell);
void slow_atomic(Allocation* allocation, Cell* cell);
[[noreturn]] void wrote_read_only(Allocation* allocation, uintptr_t address);

inline Allocation* locate(uintptr_t address, size_t bytes, const char* verb) {
  if (address % bytes != 0) misaligned(address, bytes, verb);
  Allocation* allocation = pages[(address >> kPageShift) % kPages];
  if (!allocation || address - allocation->base >= allocation->bytes ||
      bytes > allocation->bytes - (address - allocation->base))
    allocation = find_allocation(address, bytes, verb);
  if (bytes < size_t{1} << allocation->shift) refine(allocation, bytes);
  return allocation;
}

// A read that adds nothing to what a read stamp says.
inline bool known_reader(Stamp read) {
  return read == now.stamp || read == now.several_warps || read == now.several_lanes;
}

inline void global_read(const void* p, size_t bytes) {
  const auto address = reinterpret_cast<uintptr_t>(p);
  Allocation* allocation = locate(address, bytes, "read");
  now.bytes_read += bytes;
  Cell* cell = &allocation->cells[(address - allocation->base) >> allocation->shift];
  for (size_t left = bytes >> allocation->shift; left > 0; --left, ++cell) {
    if (cell->write >= now.launch_floor || cell->write == kNever) {
      slow_read(allocation, cell);
    } else if (cell->read < now.launch_floor) {
      now.unique_read += size_t{1} << allocation->shift;
      cell->read = now.stamp;
    } else if (!known_reader(cell->read & ~kForeign)) {
      slow_read(allocation, cell);
    }
  }
}

inline void global_write(const void* p, size_t bytes) {
  const auto address = reinterpret_cast<uintptr_t>(p);
  Allocation* allocation = locate(address, bytes, "write");
  if (allocation->read_only) wrote_read_only(allocation, address);
  now.bytes_written += bytes;
  Cell* cell = &allocation->cells[(address - allocation->base) >> allocation->shift];
  for (size_t left = bytes >> allocation->shift; left > 0; --left, ++cell) {
    if (cell->write >= now.launch_floor || cell->read >= now.launch_floor) {
      slow_write(allocation, cell);
    } else {
      now.unique_written += size_t{1} << allocation->shift;
      cell->write = now.stamp;
    }
  }
}

inline void global_atomic(const void* p, size_t bytes) {
  const auto address = reinterpret_cast<uintptr_t>(p);
  Allocation* allocation = locate(address, bytes, "atomic update");
  if (allocation->read_only) wrote_read_only(allocation, address);
  now.bytes_read += bytes;
  now.bytes_written += bytes;
  Cell* cell = &allocation->cells[(address - allocation->base) >> allocation->shift];
  for (size_t left = bytes >> allocation->shift; left > 0; --left, ++cell) slow_atomic(allocation, cell);
}

// ---- shared memory --------------------------------------------------------------------------------------------------

void slow_shared_read(Cell* cell);
void slow_shared_write(Cell* cell);
[[noreturn]] void shared_out_of_bounds(int index, int elements, int count, size_t element_bytes);
[[noreturn]] void shared_misaligned(int index, int elements, size_t bytes);

inline void shared_read(Cell* cell) {
  const Stamp thread = now.stamp & kThreadMask;
  const bool written_before =
      cell->write >= now.block_floor && (cell->write < now.barrier_floor || (cell->write & kThreadMask) == thread);
  if (written_before && cell->read < now.barrier_floor)
    cell->read = now.stamp;
  else if (!written_before || cell->read != now.stamp)
    slow_shared_read(cell);
}

inline void shared_write(Cell* cell) {
  if (cell->write < now.barrier_floor && cell->read < now.barrier_floor)
    cell->write = now.stamp;
  else
    slow_shared_write(cell);
}

}  // namespace simt
