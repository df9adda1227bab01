#include "isa.h"

#include <atomic>
#include <cstdlib>
#include <stdexcept>

namespace nasfast {
namespace {

constexpr int kUnset = -1;
std::atomic<int> g_isa{kUnset};

bool processor_has(Isa isa) {
#if defined(__x86_64__)
  switch (isa) {
    case Isa::kBaseline:
      return true;
    case Isa::kAvx2:
      return __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma") && __builtin_cpu_supports("bmi2");
    case Isa::kAvx512:
      return __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512vl") &&
             __builtin_cpu_supports("avx512dq") && __builtin_cpu_supports("avx512bw");
  }
  return false;
#else
  return isa == Isa::kBaseline;
#endif
}

std::string names(const std::vector<Isa>& isas) {
  std::string out;
  for (Isa isa : isas) out += (out.empty() ? "" : ", ") + std::string(isa_name(isa));
  return out;
}

Isa find(const std::string& name, const char* where) {
  for (Isa isa : usable_isas())
    if (name == isa_name(isa)) return isa;
  throw std::runtime_error(std::string(where) + ": instruction set must be one of {" + names(usable_isas()) +
                           "} on this machine, got '" + name + "'");
}

}  // namespace

const char* isa_name(Isa isa) {
  switch (isa) {
    case Isa::kAvx2:
      return "avx2";
    case Isa::kAvx512:
      return "avx512";
    default:
      return "baseline";
  }
}

std::vector<Isa> built_isas() {
  return {
      Isa::kBaseline,
#ifdef NASFAST_HAVE_AVX2
      Isa::kAvx2,
#endif
#ifdef NASFAST_HAVE_AVX512
      Isa::kAvx512,
#endif
  };
}

std::vector<Isa> usable_isas() {
  std::vector<Isa> out;
  for (Isa isa : built_isas())
    if (processor_has(isa)) out.push_back(isa);
  return out;
}

Isa active_isa() {
  int isa = g_isa.load(std::memory_order_relaxed);
  if (isa == kUnset) {
    const char* forced = std::getenv("NASFAST_ISA");
    isa = static_cast<int>(forced && *forced ? find(forced, "NASFAST_ISA") : usable_isas().back());
    g_isa.store(isa, std::memory_order_relaxed);
  }
  return static_cast<Isa>(isa);
}

void set_isa(const std::string& name) {
  g_isa.store(static_cast<int>(find(name, "set_isa")), std::memory_order_relaxed);
}

}  // namespace nasfast
