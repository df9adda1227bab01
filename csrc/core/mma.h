// Products of one warp on tensor cores: d[16][8] += a[16][16] * b[16][8], bfloat16 or half, float32 accumulation.
//
// Fragments, for lane = 4*group + member (group 0..7, member 0..3), as the PTX manual lays out m16n8k16:
//   a[0]  row group,    columns 2*member, +1        a[2]  row group,    columns 2*member + 8, +9
//   a[1]  row group+8,  columns 2*member, +1        a[3]  row group+8,  columns 2*member + 8, +9
//   b[0]  rows 2*member, +1, column group           b[1]  rows 2*member + 8, +9, column group
//   d[0], d[1]  row group,   columns 2*member, +1   d[2], d[3]  row group+8, columns 2*member, +1
// Two elements share a register, the lower index in the lower half. All 32 lanes take part.
#pragma once

#include "device.h"

namespace nasfast {

inline constexpr int kMmaM = 16, kMmaN = 8, kMmaK = 16;

// Two neighbouring elements as the register that a fragment wants.
template <class T>
__device__ __forceinline__ uint32_t pair_bits(const Pack<T, 2>& pair) {
  return static_cast<uint32_t>(pair[0].bits) | static_cast<uint32_t>(pair[1].bits) << 16;
}

// T names the type of a and b: bf16_t or half_t.
template <class T>
__device__ __forceinline__ void mma_16x8x16(float (&d)[4], const uint32_t (&a)[4], const uint32_t (&b)[2]) {
  static_assert(sizeof(T) == 2, "tensor-core products take bf16_t or half_t");
#if defined(NASFAST_SIMT)
  simt::mma_16x8x16<T>(d, a, b);
#else
  if constexpr (__is_same(T, bf16_t)) {
    asm volatile(
        "mma.sync.aligned.m16n8k16.row.col.f32.bf16.bf16.f32 {%0,%1,%2,%3}, {%4,%5,%6,%7}, {%8,%9}, {%0,%1,%2,%3};"
        : "+f"(d[0]), "+f"(d[1]), "+f"(d[2]), "+f"(d[3])
        : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b[0]), "r"(b[1]));
  } else {
    asm volatile(
        "mma.sync.aligned.m16n8k16.row.col.f32.f16.f16.f32 {%0,%1,%2,%3}, {%4,%5,%6,%7}, {%8,%9}, {%0,%1,%2,%3};"
        : "+f"(d[0]), "+f"(d[1]), "+f"(d[2]), "+f"(d[3])
        : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b[0]), "r"(b[1]));
  }
#endif
}

}  // namespace nasfast
