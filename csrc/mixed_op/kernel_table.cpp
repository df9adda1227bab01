// Chooses the kernels of the active instruction set.
#include "mixed_op_kernels.h"
#include "profile.h"

namespace nasfast::mixed_op {
namespace {

template <class S>
const KernelTable<S>& active_table() {
  switch (active_isa()) {
#ifdef NASFAST_HAVE_AVX512
    case Isa::kAvx512:
      return avx512::mixed_op_kernels<S>();
#endif
#ifdef NASFAST_HAVE_AVX2
    case Isa::kAvx2:
      return avx2::mixed_op_kernels<S>();
#endif
    default:
      return baseline::mixed_op_kernels<S>();
  }
}

}  // namespace

template <class S>
const KernelTable<S>& kernel_table() {
  const KernelTable<S>& table = active_table<S>();
  return profile_running() ? profiled_table(table) : table;
}

template const KernelTable<float>& kernel_table<float>();
template const KernelTable<double>& kernel_table<double>();
template const KernelTable<bf16>& kernel_table<bf16>();

}  // namespace nasfast::mixed_op
