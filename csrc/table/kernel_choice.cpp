// The kernels of the active instruction set, and how much scratch they want.
#include <algorithm>

#include "table_kernels.h"

namespace nasfast::table {

template <class A>
const Kernels<A>& kernels() {
  switch (active_isa()) {
#ifdef NASFAST_HAVE_AVX512
    case Isa::kAvx512:
      return avx512::table_kernels<A>();
#endif
#ifdef NASFAST_HAVE_AVX2
    case Isa::kAvx2:
      return avx2::table_kernels<A>();
#endif
    default:
      return baseline::table_kernels<A>();
  }
}

template const Kernels<float>& kernels<float>();
template const Kernels<double>& kernels<double>();

int backward_rows(int64_t members) {
  return static_cast<int>(std::clamp<int64_t>(256 / std::max<int64_t>(members, 1), 4, 32));
}

int64_t forward_scratch(int64_t rows, int64_t features) { return rows * kPair + features * kChunk; }

int64_t backward_scratch(int64_t rows, int64_t features, int64_t members) {
  return 2 * rows * kPair + features * (backward_rows(members) * kChunk + members * kLanes);
}

}  // namespace nasfast::table
