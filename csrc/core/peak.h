// Peak float32 rate of the processor, for rooflines.
#pragma once

#include <cstdint>

namespace nasfast {

namespace baseline {
double fma_burst(int64_t iterations);
}
namespace avx2 {
double fma_burst(int64_t iterations);
}
namespace avx512 {
double fma_burst(int64_t iterations);
}

// Operations per second (a multiply-add counts as two) that `threads` threads reach together in about `seconds`.
double peak_fma(double seconds, int threads);

}  // namespace nasfast
