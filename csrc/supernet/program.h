// What a shared network is made of, as the ops of this family read it from a list of integers.
//
//   units U, operations O, entries T,
//   U x kUnitFields, O x kOperationFields,
//   T x (kind, number of inputs, number of operations, inputs..., operations...)
//
// A unit is one layer with what surrounds it; an operation is a few units, the last of which is its result; an entry is
// a node of the network, which reads earlier ones. An entry with several operations is a place: every group of images
// computes one of them. The last entry is the output.
#pragma once

#include <cstdint>
#include <vector>

#include <c10/util/ArrayRef.h>

#include "../core/conv_shape.h"

namespace nasfast::supernet {

// Numbered as child_eval's primitives, as far as both have them.
enum class UnitKind : int64_t {
  kConv = 0,
  kDepthwise = 1,
  kAveragePool = 3,
  kMaximumPool = 4,
  kNorm = 5,
  kHead = 6,
  kSum = 7,
  kPick = 8,  // every second pixel of every second row, from the first (kernel 1) or the second (kernel 2) on
  kJoin = 9,  // two values, channels one after the other
};

struct Unit {
  static constexpr int kFields = 15;
  UnitKind kind;
  int kernel, stride, dilation;
  Act before, after;  // activations around it
  int64_t c_in, c_out;
  int64_t weight, bias, gamma, beta;  // of the op's params; -1: none
  int64_t norm;                       // number of its BatchNorm, -1: none
  int64_t input[2];                   // units of its operation; -1: what the operation reads
  bool is_conv() const { return kind == UnitKind::kConv || kind == UnitKind::kDepthwise; }
  bool is_pool() const { return kind == UnitKind::kAveragePool || kind == UnitKind::kMaximumPool; }
};

enum class OperationKind : int64_t { kUnits = 0, kIdentity = 1, kZero = 2 };

struct Operation {
  static constexpr int kFields = 5;
  OperationKind kind;
  int64_t first_unit, units;
  int64_t c_out, stride;
};

enum class EntryKind : int64_t { kInput = 0, kOperation = 1, kSum = 2, kConcat = 3 };

struct Entry {
  EntryKind kind;
  std::vector<int64_t> inputs, operations;
  int64_t place = -1;  // column of the index; -1: no choice
};

struct OutputShape {
  int64_t channels;
  int halvings;
  bool logits;  // [N, channels] instead of an image
};

struct Program {
  std::vector<Unit> units;
  std::vector<Operation> operations;
  std::vector<Entry> entries;
  int64_t places = 0, norms = 0, params = 0;  // counts; params and norms: one more than the highest number

  // Throws c10::Error where the numbers make no network.
  explicit Program(c10::IntArrayRef code);
  // With the first operation of every place.
  OutputShape output() const;
};

}  // namespace nasfast::supernet
