// Runs a grid: blocks, fibers, barriers, warp operations.
#pragma once

#include <cstddef>
#include <cstdint>
#include <stdexcept>
#include <string>

#include "core/device_types.h"

namespace simt {

inline constexpr int kWarp = 32;
inline constexpr int kMaxThreads = 1024;
// Of a block: the least of sm_80, sm_90 and sm_100, so that what runs here runs on all of them.
inline constexpr size_t kMaxSharedBytes = 163 * 1024;
inline constexpr int kSlotBytes = 32;  // largest value a lane gives to a warp operation

struct Index3 {
  unsigned x, y, z;
};

class Error : public std::runtime_error {
 public:
  using std::runtime_error::runtime_error;
};

// A place in a kernel where threads meet.
struct Site {
  const char* what;
  const char* file;
  int line;
};

// Throws an Error that starts with the kernel, block and thread that run now.
[[noreturn]] void fail(const std::string& message);
std::string to_text(const Site& site);

// ---- for launch() ---------------------------------------------------------------------------------------------------

using Call = void (*)(const void* context);
void run_grid(const char* name, dim3 grid, dim3 block, size_t shared_bytes, Call call, const void* context);

template <class F>
void run(const char* name, dim3 grid, dim3 block, size_t shared_bytes, const F& call) {
  run_grid(name, grid, block, shared_bytes, [](const void* f) { (*static_cast<const F*>(f))(); }, &call);
}

// ---- for kernels ----------------------------------------------------------------------------------------------------

int lane_id();
void block_barrier(const Site& site);
void warp_barrier(unsigned mask, const Site& site);
bool last_block(unsigned* counter, unsigned blocks, const Site& site);

// Every lane of `mask` gives `bytes` at `own` and receives all 32 slots; slots outside the mask are not touched.
void exchange(unsigned mask, const void* own, void* all, size_t bytes, const Site& site);
unsigned ballot(unsigned mask, bool predicate, const Site& site);
[[noreturn]] void bad_shuffle(unsigned mask, int source, const Site& site);

template <class T, class Source>
T shuffle(unsigned mask, T v, const Site& site, int width, Source source_of) {
  static_assert(sizeof(T) <= kSlotBytes);
  if (width < 1 || width > kWarp || (width & (width - 1)) != 0) fail(to_text(site) + ": width must be a power of 2");
  T all[kWarp];
  exchange(mask, &v, all, sizeof(T), site);
  const int source = source_of(lane_id());
  if (!(mask >> source & 1u)) bad_shuffle(mask, source, site);
  return all[source];
}

struct Cell;
struct SharedPiece {
  unsigned char* data;
  Cell* cells;
};
SharedPiece take_shared(int index, size_t offset, size_t first_cell, int count, size_t element_bytes);

}  // namespace simt
