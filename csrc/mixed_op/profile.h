// Time, operations and bytes of every CPU kernel, counted while somebody asks for it.
//
// The profiled table wraps each function of the active one; an op picks its table when it starts, so a run that is not
// profiled pays nothing.
#pragma once

#include <array>
#include <map>
#include <string>

#include "mixed_op_kernels.h"

namespace nasfast::mixed_op {

void profile_start();  // from zero
// Kernel -> {calls, seconds (threads added up), floating-point operations, bytes read and written, each tensor once}.
std::map<std::string, std::array<double, 4>> profile_stop();

bool profile_running();
template <class S>
const KernelTable<S>& profiled_table(const KernelTable<S>& table);

}  // namespace nasfast::mixed_op
