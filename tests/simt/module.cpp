// The Python module _simt: the CUDA sources of csrc, on CPU tensors.
#include <torch/csrc/utils/pybind.h>

#include "host.h"

PYBIND11_MODULE(TORCH_EXTENSION_NAME, m) {
  m.doc() = "The CUDA kernels of nasfast under a harness that checks and counts every access to memory";
  simt::bind(m);
}
