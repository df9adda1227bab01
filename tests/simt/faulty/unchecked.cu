// Accesses that go around the harness. Only AddressSanitizer sees them.
#include "faulty.h"

namespace faulty {
namespace {

template <bool Right>
__global__ void unchecked_global(Buffers b) {
  const int i = blockIdx.x * kThreads + threadIdx.x;
  gstore(b.y + i, b.x[Right ? i : i + 8]);
}
FAULTY_CASE(unchecked_global, 0);

template <bool Right>
__global__ void unchecked_local(Buffers b) {
  const int i = blockIdx.x * kThreads + threadIdx.x;
  float v[4] = {};
  const int steps = Right ? 4 : 4 + static_cast<int>(gridDim.x) / 4;
  for (int k = 0; k < steps; ++k) reinterpret_cast<volatile float*>(v)[k] = gload(b.x + i);
  gstore(b.y + i, v[0] + v[3]);
}
FAULTY_CASE(unchecked_local, 0);

}  // namespace
}  // namespace faulty
