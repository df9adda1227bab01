// What the modules of the harness offer to Python.
#pragma once

#include <pybind11/pybind11.h>

#include <string>
#include <vector>

#include "aten/tensor.h"

namespace simt {

// Runs the ops of csrc/**/*_cuda.cpp in place of their CPU kernels, until disable().
void enable();
void disable();

// Bytes of an op's result that neither a kernel nor the host wrote.
int64_t unwritten(const at::Tensor& t);

// Results of calls since the list was last cleared that kernels left unwritten in part.
std::vector<std::string>& incomplete_results();

// enable, disable, unwritten, incomplete_results, seed, launches, reset.
void bind(pybind11::module_& m);

}  // namespace simt
