#include "peak.h"

#include <chrono>
#include <stdexcept>

#include "isa.h"

namespace nasfast {
namespace {

double burst(int64_t iterations) {
  switch (active_isa()) {
#ifdef NASFAST_HAVE_AVX512
    case Isa::kAvx512:
      return avx512::fma_burst(iterations);
#endif
#ifdef NASFAST_HAVE_AVX2
    case Isa::kAvx2:
      return avx2::fma_burst(iterations);
#endif
    default:
      return baseline::fma_burst(iterations);
  }
}

}  // namespace

double peak_fma(double seconds, int threads) {
  if (!(seconds > 0) || threads < 1) throw std::invalid_argument("peak_fma: seconds and threads must be above 0");
  using Clock = std::chrono::steady_clock;
  const auto elapsed = [](Clock::time_point since) {
    return std::chrono::duration<double>(Clock::now() - since).count();
  };
  constexpr int64_t kBurst = 1 << 16;
  double total = 0;
  const auto start = Clock::now();
#pragma omp parallel num_threads(threads) reduction(+ : total)
  {
    while (elapsed(start) < seconds) total += burst(kBurst);
  }
  return total / elapsed(start);
}

}  // namespace nasfast
