// CPU kernels of the table embedding: what they take, as a table for one element type (float or double).
//
// A kernel computes one chunk of lanes of the width, for a block of features, after another. It first makes a table
// [rows][base, slope][kChunk] of the block's weights: the value of a feature in row r is base[r] + fraction * slope[r].
// For an increment the base is the sum of those before it and the slope is the increment; for a lookup they are the
// weights and zero. Lanes past the width are zero.
#pragma once

#include "../core/isa.h"
#include "../core/types.h"

namespace nasfast::table {

inline constexpr int kChunk = 2 * kLanes;
inline constexpr int kPair = 2 * kChunk;  // base and slope of a row

// Features side by side; arrays of as many numbers.
struct Features {
  int32_t count, first_row;
  const int32_t* increments;
  const int32_t* offsets;  // one more than features
  int32_t rows() const { return offsets[count] - offsets[0]; }
};

// Rows of a batch as they are looked up, from a block's first feature on.
template <class A>
struct Codes {
  const int32_t* at;  // row of the weights, times kPair
  const A* fraction;  // zero for lookups
  ptrdiff_t ld;
  int rows;
};

// `lanes` numbers (1..kChunk) in each of some rows.
template <class T>
struct Lanes {
  T* p;
  ptrdiff_t ld;
  int lanes;
};

template <class A>
struct Forward {
  Features features;
  Codes<A> codes;
  Lanes<const A> weights;  // from the block's first row on
  const A* scales;         // [features][members]
  int members;
  bool first, last;  // block of all features
  A* sums;           // [rows][members][kChunk], what a block hands to the next
  A* scratch;
  Lanes<A> out;  // its rows are members; the last block's alone
  ptrdiff_t out_row;
};

template <class A>
struct Backward {
  Features features;  // at most kFeatures<A>
  Codes<A> codes;
  Lanes<const A> weights;
  const A* scales;  // [members][scales_ld]
  ptrdiff_t scales_ld;
  int members;
  const A* grad;  // [rows][members][kChunk]
  bool add;       // to what `grad_weights` holds
  A* scratch;
  Lanes<A> grad_weights;  // null: not wanted
  double* grad_scales;    // [members][scales_ld], added to; null: not wanted
};

// Features whose gradients a kernel holds in registers.
template <class A>
inline constexpr int kFeatures = sizeof(A) == sizeof(float) ? 6 : 3;

template <class A>
struct Kernels {
  // One row: bins and fractions [features] to codes. False where a bin is not below the rows of its feature.
  bool (*encode_float)(const Features&, const int16_t* bins, const float* fractions, int32_t* at, A* fraction);
  bool (*encode_double)(const Features&, const int16_t* bins, const double* fractions, int32_t* at, A* fraction);
  void (*forward)(const Forward<A>&);
  void (*backward)(const Backward<A>&);
  // Rows of a chunk to [rows][kChunk].
  void (*pack)(const Lanes<const A>&, int64_t rows, A* out);
};

// Elements of scratch that the kernels want.
int64_t forward_scratch(int64_t rows, int64_t features);
int64_t backward_scratch(int64_t rows, int64_t features, int64_t members);

// Rows that the backward takes at a time, so that their gradients stay in the first-level cache.
int backward_rows(int64_t members);

template <class A>
const Kernels<A>& kernels();  // of the active instruction set

}  // namespace nasfast::table

namespace nasfast {
namespace baseline {
template <class A>
const table::Kernels<A>& table_kernels();
}
namespace avx2 {
template <class A>
const table::Kernels<A>& table_kernels();
}
namespace avx512 {
template <class A>
const table::Kernels<A>& table_kernels();
}
}  // namespace nasfast
