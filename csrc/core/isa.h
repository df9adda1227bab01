// Which instruction sets were built, and which one runs.
#pragma once

#include <string>
#include <vector>

namespace nasfast {

enum class Isa { kBaseline, kAvx2, kAvx512 };

const char* isa_name(Isa isa);
std::vector<Isa> built_isas();
std::vector<Isa> usable_isas();  // built, and this processor has them

// The best usable set, or the one that NASFAST_ISA names. Throws std::runtime_error for an unknown or unusable name.
Isa active_isa();
// Forces a set for this process; the same errors.
void set_isa(const std::string& name);

}  // namespace nasfast
