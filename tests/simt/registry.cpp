#include "registry.h"

#include <cstring>
#include <map>

namespace simt {

Allocation* pages[kPages];

namespace {

std::map<uintptr_t, std::unique_ptr<Allocation>>& registry() {
  static auto* map = new std::map<uintptr_t, std::unique_ptr<Allocation>>;  // tensors may outlive static destruction
  return *map;
}

// The last allocation that begins at or before the address.
Allocation* preceding(uintptr_t address) {
  auto it = registry().upper_bound(address);
  return it == registry().begin() ? nullptr : std::prev(it)->second.get();
}

void forget_pages(const Allocation* allocation) {
  const uintptr_t first = allocation->base >> kPageShift;
  const uintptr_t last = (allocation->base + allocation->bytes) >> kPageShift;
  for (uintptr_t page = first; page <= last && page < first + kPages; ++page)
    if (pages[page % kPages] == allocation) pages[page % kPages] = nullptr;
}

size_t cell_count(const Allocation* allocation) {
  return (allocation->bytes + (size_t{1} << allocation->shift) - 1) >> allocation->shift;
}

std::string hex(uintptr_t address) {
  char text[32];
  snprintf(text, sizeof(text), "0x%zx", static_cast<size_t>(address));
  return text;
}

std::string place(uintptr_t address) {
  const Allocation* before = preceding(address);
  const auto next = registry().upper_bound(address);
  const Allocation* after = next == registry().end() ? nullptr : next->second.get();
  if (!before && !after) return "no memory is known to the harness";
  const uintptr_t past = before ? address - (before->base + before->bytes) : UINTPTR_MAX;
  if (before && address < before->base + before->bytes)
    return "it begins " + std::to_string(address - before->base) + " bytes into " + before->label + " (" +
           std::to_string(before->bytes) + " bytes)";
  if (before && (!after || past <= after->base - address))
    return std::to_string(past) + " bytes past the end of " + before->label + " (" + std::to_string(before->bytes) +
           " bytes)";
  return std::to_string(after->base - address) + " bytes before " + after->label;
}

}  // namespace

Allocation* add_allocation(void* base, size_t bytes, bool written, std::string label) {
  const auto address = reinterpret_cast<uintptr_t>(base);
  const Allocation* before = preceding(address + bytes - 1);
  if (before && before->base + before->bytes > address)
    throw Error(label + " overlaps " + before->label + ", which the harness knows already");
  auto allocation = std::make_unique<Allocation>();
  allocation->base = address;
  allocation->bytes = bytes;
  allocation->label = std::move(label);
  allocation->cells.reset(new Cell[cell_count(allocation.get())]);
  if (written) {
    mark_written(allocation.get());
  } else {
    auto* p = static_cast<unsigned char*>(base);
    for (size_t i = 0; i < bytes; ++i) p[i] = static_cast<unsigned char>(i % 2 ? kPoison >> 8 : kPoison);
  }
  return (registry()[address] = std::move(allocation)).get();
}

void remove_allocation(void* base) {
  const auto it = registry().find(reinterpret_cast<uintptr_t>(base));
  if (it == registry().end()) return;
  forget_pages(it->second.get());
  registry().erase(it);
}

Allocation* allocation_at(const void* base) {
  const auto it = registry().find(reinterpret_cast<uintptr_t>(base));
  return it == registry().end() ? nullptr : it->second.get();
}

Allocation* find_allocation(uintptr_t address, size_t bytes, const char* verb) {
  Allocation* allocation = preceding(address);
  if (!allocation || address - allocation->base > allocation->bytes ||
      bytes > allocation->bytes - (address - allocation->base))
    fail(std::string(verb) + " of " + std::to_string(bytes) + " bytes at " + hex(address) +
         " is out of bounds: " + place(address));
  pages[(address >> kPageShift) % kPages] = allocation;
  return allocation;
}

void misaligned(uintptr_t address, size_t bytes, const char* verb) {
  fail(std::string(verb) + " of " + std::to_string(bytes) + " bytes at " + hex(address) +
       " is misaligned: the address must be a multiple of " + std::to_string(bytes) + "; " + place(address));
}

void wrote_read_only(Allocation* allocation, uintptr_t address) {
  fail("write to " + allocation->label + ", which the host gave to be read only, at byte " +
       std::to_string(address - allocation->base));
}

void refine(Allocation* allocation, size_t granule) {
  const size_t count = cell_count(allocation);
  const int old_shift = allocation->shift;
  while (size_t{1} << allocation->shift > granule) --allocation->shift;
  const int split = old_shift - allocation->shift;
  std::unique_ptr<Cell[]> cells(new Cell[count << split]);
  for (size_t i = 0; i < count << split; ++i) cells[i] = allocation->cells[i >> split];
  allocation->cells = std::move(cells);
}

bool host_wrote(const Allocation* allocation, const Cell* cell) {
  const size_t granule = size_t{1} << allocation->shift;
  const size_t first = static_cast<size_t>(cell - allocation->cells.get()) * granule;
  const auto* p = reinterpret_cast<const unsigned char*>(allocation->base);
  for (size_t i = first; i < std::min(first + granule, allocation->bytes); ++i)
    if (p[i] != static_cast<unsigned char>(i % 2 ? kPoison >> 8 : kPoison)) return true;
  return false;
}

size_t unwritten_bytes(Allocation* allocation) {
  const size_t granule = size_t{1} << allocation->shift;
  size_t bytes = 0;
  for (size_t i = 0; i < cell_count(allocation); ++i) {
    const Cell* cell = &allocation->cells[i];
    if (cell->write == kNever && !host_wrote(allocation, cell))
      bytes += std::min(granule, allocation->bytes - i * granule);
  }
  return bytes;
}

void mark_written(Allocation* allocation) {
  for (size_t i = 0; i < cell_count(allocation); ++i) allocation->cells[i].write = kByHost;
}

}  // namespace simt
