// Mistakes that go around the harness. Only the sanitizers see them.
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

// An index past 2^31.
template <bool Right>
__global__ void unchecked_overflow(Buffers b) {
  const int i = blockIdx.x * kThreads + threadIdx.x;
  const int rows = 50000 + static_cast<int>(gridDim.x), columns = 50000;
  const int64_t last = Right ? static_cast<int64_t>(rows) * columns : rows * columns;
  gstore(b.y + i, static_cast<float>(last) * gload(b.x + i));
}
FAULTY_CASE(unchecked_overflow, 0);

}  // namespace
}  // namespace faulty
