#include <torch/csrc/utils/pybind.h>

#include "counts.h"
#include "host.h"

namespace simt {
namespace {

pybind11::dict to_dict(const Launch& l) {
  pybind11::dict d;
  d["name"] = l.name;
  d["grid"] = pybind11::make_tuple(l.grid.x, l.grid.y, l.grid.z);
  d["block"] = pybind11::make_tuple(l.block.x, l.block.y, l.block.z);
  d["shared_bytes"] = l.shared_bytes;
  d["bytes_read"] = l.bytes_read;
  d["bytes_written"] = l.bytes_written;
  d["unique_read"] = l.unique_read;
  d["unique_written"] = l.unique_written;
  return d;
}

}  // namespace

void bind(pybind11::module_& m) {
  pybind11::register_exception<Error>(m, "Error", PyExc_RuntimeError);
  m.def("enable", &enable, "Run the CUDA sources in place of the CPU kernels of the same ops.");
  m.def("disable", &disable, "Give the ops their CPU kernels back.");
  m.def("unwritten", &unwritten, "Bytes of an op's result that nobody wrote.");
  m.def("seed", &set_seed, pybind11::arg("seed"), "Thread and block orders of the launches from now on.");
  m.def(
      "reset",
      [] {
        launches().clear();
        incomplete_results().clear();
      },
      "Forget the launches and the incomplete results.");
  m.def(
      "incomplete_results", [] { return incomplete_results(); },
      "What calls returned and kernels left unwritten in part, in words.");
  m.def(
      "launches",
      [] {
        pybind11::list list;
        for (const Launch& l : launches()) list.append(to_dict(l));
        return list;
      },
      "One dict per launch: name, grid, block, shared_bytes, bytes_read and bytes_written as requested by threads, "
      "unique_read and unique_written with every byte counted once.");
}

}  // namespace simt
