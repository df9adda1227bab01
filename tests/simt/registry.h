// Which memory kernels may touch.
#pragma once

#include <string>

#include "access.h"

namespace simt {

// What memory holds before a kernel writes it: NaN in every floating-point type.
inline constexpr uint16_t kPoison = 0x7fbd;

// Adds memory that kernels may touch. `written` false: poisoned here, and to be written before it is read. Memory that
// overlaps what is known is an error.
Allocation* add_allocation(void* base, size_t bytes, bool written, std::string label);
void remove_allocation(void* base);
// The allocation that begins there, or null.
Allocation* allocation_at(const void* base);

// A cell that no kernel wrote: whether the host did, which shows where the poison is gone.
bool host_wrote(const Allocation* allocation, const Cell* cell);
// Bytes that neither a kernel nor the host wrote.
size_t unwritten_bytes(Allocation* allocation);
void mark_written(Allocation* allocation);

}  // namespace simt
