// What a table embedding may be given.
#pragma once

#include "../aten/tensor.h"

#include <optional>

#include "plan.h"

namespace nasfast::table {

// The arguments of a call.
//   weights    [G, R, D] float32 or float64
//   bins       [N, F] int16, fractions [N, F] float32 or float64: the encoded table
//   scales     [G, M, F], as the weights
//   rows       [G, B] or [B] int64: rows of the table for each group; none: all of them
struct Call {
  at::Tensor weights, bins, fractions, scales;
  std::optional<at::Tensor> rows;
  Layout layout;

  int64_t groups() const { return weights.size(0); }
  int64_t width() const { return weights.size(2); }
  int64_t members() const { return scales.size(1); }
  int64_t batch() const { return rows ? rows->size(-1) : bins.size(0); }
  // Every group takes the same rows.
  bool shared_rows() const { return !rows || rows->dim() == 1; }
};

// Checks all but the values of bins and rows; dense tensors come out contiguous.
Call checked_call(const at::Tensor& weights, const at::Tensor& bins, const at::Tensor& fractions,
                  const at::Tensor& scales, const std::optional<at::Tensor>& rows, at::IntArrayRef increments,
                  at::IntArrayRef lookups);

}  // namespace nasfast::table
