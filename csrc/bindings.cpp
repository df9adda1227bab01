// The Python module nasfast._C. Loading it registers torch.ops.nasfast; bound here is what is no op: what the build and
// the machine offer, facts about graphs, and populations of children.
#include <omp.h>
#include <torch/csrc/utils/pybind.h>

#if NASFAST_WITH_CUDA
#include <cuda_runtime_api.h>
#endif

#include "aten/buffer_cache.h"
#include "child_eval/population.h"
#include "core/isa.h"
#include "core/peak.h"
#include "mixed_op/mixed_op.h"
#include "mixed_op/profile.h"
#include "supernet/supernet.h"

#ifndef NASFAST_TORCH_VERSION
#error "NASFAST_TORCH_VERSION must be the version of torch the extension is built with"
#endif

namespace nasfast {
namespace {

std::vector<std::string> names(const std::vector<Isa>& isas) {
  std::vector<std::string> out;
  for (Isa isa : isas) out.emplace_back(isa_name(isa));
  return out;
}

pybind11::dict build_info() {
  pybind11::dict info;
  info["torch"] = NASFAST_TORCH_VERSION;
  info["compiler"] = "g++ " __VERSION__;
  info["cpp"] = static_cast<int64_t>(__cplusplus);
#ifdef _OPENMP
  info["openmp"] = static_cast<int64_t>(_OPENMP);
#else
  info["openmp"] = pybind11::none();
#endif
#if NASFAST_WITH_CUDA
  info["cuda"] = std::to_string(CUDART_VERSION / 1000) + "." + std::to_string(CUDART_VERSION % 1000 / 10);
  info["cuda_archs"] = NASFAST_CUDA_ARCHS;
#else
  info["cuda"] = pybind11::none();
#endif
  info["isa_built"] = names(built_isas());
  info["isa_usable"] = names(usable_isas());
  info["isa"] = isa_name(active_isa());
  return info;
}

}  // namespace
}  // namespace nasfast

PYBIND11_MODULE(TORCH_EXTENSION_NAME, m) {
  using namespace nasfast;
  m.doc() = "C++ side of nasfast";
  m.def("build_info", &build_info, "Compiler, torch and CUDA version, OpenMP and instruction sets, as a dict.");
  m.def("set_isa", &set_isa, pybind11::arg("name"), "Run the CPU kernels of this instruction set from now on.");
  m.def("empty_buffer_cache", &empty_buffer_cache, "Free the kept buffers; returns their bytes.");
  m.def("peak_fma", &peak_fma, pybind11::arg("seconds"), pybind11::arg("threads"),
        "Float32 operations per second that this many threads reach on registers alone.");
  m.def("profile_start", &mixed_op::profile_start, "Count every CPU kernel from now on.");
  m.def("profile_stop", &mixed_op::profile_stop,
        "Stop counting; kernel -> [calls, seconds of all threads, floating-point operations, bytes].");
  m.def("mixed_op_saved_elements",
        [](const std::vector<int64_t>& graph, int64_t channels, int64_t height, int64_t width, bool cuda) {
          return mixed_op::mixed_op_saved_elements(graph, channels, height, width, cuda);
        });
  m.def("mixed_op_norm_count", [](const std::vector<int64_t>& graph) { return mixed_op::mixed_op_norm_count(graph); });
  m.def("supernet_output", [](const std::vector<int64_t>& graph) { return supernet::supernet_output(graph); });
  using child_eval::Population;
  pybind11::class_<Population, std::shared_ptr<Population>>(m, "ChildPopulation", "A merged population of children.")
      .def_static("from_rows", &Population::from_rows)
      .def_static("from_graphs", &Population::from_graphs)
      .def("counts", &Population::counts)
      .def("index", &Population::index)
      .def("tables", &Population::tables);
}
