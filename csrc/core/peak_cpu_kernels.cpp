// What the processor could do: independent fused multiply-adds on registers, nothing else.
#include "peak.h"
#include "simd.h"

namespace nasfast::NASFAST_ISA {

double fma_burst(int64_t iterations) {
  constexpr int kChains = 10;  // enough for the latency of two units, few enough for sixteen registers
  Vec<float> acc[kChains];
  for (int i = 0; i < kChains; ++i) acc[i] = broadcast<float>(1.0f + static_cast<float>(i));
  Vec<float> a = broadcast<float>(0.999f), b = broadcast<float>(1e-3f);
  asm volatile("" : "+m"(a), "+m"(b));  // unknown to the compiler
  const Vec<float> scale = a, shift = b;
  for (int64_t n = 0; n < iterations; ++n)
#pragma GCC unroll 10
    for (int i = 0; i < kChains; ++i) acc[i] = acc[i] * scale + shift;
  float sum = 0;
  for (int i = 0; i < kChains; ++i) sum += acc[i][0];
  asm volatile("" : : "r"(&sum) : "memory");
  return 2.0 * kChains * kLanes * static_cast<double>(iterations);
}

}  // namespace nasfast::NASFAST_ISA
