#include "contract.h"

#include <limits>

namespace nasfast::table {
namespace {

constexpr int64_t kMostRows = int64_t{1} << 15;     // bins are int16
constexpr int64_t kMostWeights = int64_t{1} << 25;  // of all features; codes are int32

Layout checked_layout(at::IntArrayRef increments, at::IntArrayRef lookups) {
  TORCH_CHECK(!increments.empty() && increments.size() == lookups.size(),
              "table_embedding: layout must have increments and lookups for each of at least one feature, got ",
              increments.size(), " and ", lookups.size());
  Layout layout;
  layout.offsets.push_back(0);
  for (size_t f = 0; f < increments.size(); ++f) {
    const int64_t i = increments[f], l = lookups[f];
    TORCH_CHECK(i >= 0 && l >= 0 && i <= kMostRows && l <= kMostRows && i + l >= 1 && i + l <= kMostRows,
                "table_embedding: layout must give each feature 1 to ", kMostRows, " rows, got ", i, " increments and ",
                l, " lookups for feature ", f);
    const int64_t end = layout.offsets.back() + i + l;
    TORCH_CHECK(end <= kMostWeights, "table_embedding: layout must have at most ", kMostWeights, " rows in all");
    layout.increments.push_back(static_cast<int32_t>(i));
    layout.offsets.push_back(static_cast<int32_t>(end));
  }
  return layout;
}

void check_dense(const at::Tensor& t, const char* name) {
  TORCH_CHECK(t.layout() == at::kStrided && t.device().is_cpu(), "table_embedding: ", name,
              " must be a dense tensor on the CPU, got ", t.layout(), " on ", t.device());
}

bool is_real(const at::Tensor& t) { return t.scalar_type() == at::kFloat || t.scalar_type() == at::kDouble; }

}  // namespace

Call checked_call(const at::Tensor& weights, const at::Tensor& bins, const at::Tensor& fractions,
                  const at::Tensor& scales, const std::optional<at::Tensor>& rows, at::IntArrayRef increments,
                  at::IntArrayRef lookups) {
  Layout layout = checked_layout(increments, lookups);
  const int64_t F = layout.features();
  check_dense(weights, "weights");
  check_dense(bins, "bins");
  check_dense(fractions, "fractions");
  check_dense(scales, "scales");
  TORCH_CHECK(is_real(weights) && weights.dim() == 3 && weights.size(1) == layout.rows(),
              "table_embedding: weights must be float32 or float64 [groups, ", layout.rows(),
              ", width], as the layout has it, got ", weights.scalar_type(), " ", weights.sizes());
  TORCH_CHECK(bins.scalar_type() == at::kShort && bins.dim() == 2 && bins.size(1) == F && bins.is_contiguous(),
              "table_embedding: bins must be contiguous int16 [rows, ", F, "], a column for each feature, got ",
              bins.scalar_type(), " ", bins.sizes(), " with strides ", bins.strides());
  TORCH_CHECK(is_real(fractions) && fractions.sizes() == bins.sizes() && fractions.is_contiguous(),
              "table_embedding: fractions must be contiguous float32 or float64 ", bins.sizes(), ", as the bins, got ",
              fractions.scalar_type(), " ", fractions.sizes(), " with strides ", fractions.strides());
  TORCH_CHECK(scales.scalar_type() == weights.scalar_type() && scales.dim() == 3 && scales.size(0) == weights.size(0) &&
                  scales.size(2) == F,
              "table_embedding: scales must be ", weights.scalar_type() == at::kDouble ? "float64" : "float32", " [",
              weights.size(0), ", members, ", F, "], as the weights, got ", scales.scalar_type(), " ", scales.sizes());
  if (rows) {
    check_dense(*rows, "rows");
    const bool fits = rows->dim() == 1 || (rows->dim() == 2 && rows->size(0) == weights.size(0));
    TORCH_CHECK(rows->scalar_type() == at::kLong && fits, "table_embedding: rows must be int64 [batch] or [",
                weights.size(0), ", batch], got ", rows->scalar_type(), " ", rows->sizes());
  }
  return {weights.contiguous(),
          bins,
          fractions,
          scales.contiguous(),
          rows ? std::optional(rows->contiguous()) : std::nullopt,
          std::move(layout)};
}

}  // namespace nasfast::table
