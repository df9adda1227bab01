// Runs a scheduled population on the CPU.
//
// Evaluation: images do not see each other, so each thread takes a slice of the batch and walks the whole plan on it;
// its values stay in its caches, and threads meet only at the end. Calibration: normalisations need the whole batch, so
// every step is done for all slices before the next.
#pragma once

#include <functional>
#include <memory>

#include "primitives.h"
#include "schedule.h"

namespace nasfast::child_eval {

struct Images {
  const float* data;
  int64_t count, channels, height, width;
  int64_t stride[4];  // in elements: image, channel, row, column
};

// Scale and shift of the normalisations of every operation node, from a calibration batch.
struct NodeStatistics {
  std::vector<int64_t> offset;  // by node, into values; -1: none
  std::vector<float> values;    // scale, shift of each normalisation in order
};

struct Report {
  int64_t peak_bytes = 0;  // of values and scratch, all threads together
  int64_t computed_again = 0;
  int64_t threads = 0, slice_images = 0;
};

struct Work {
  const Plan& plan;
  const std::vector<Primitive>& primitives;
  const std::vector<uint8_t>& live;
};

// Logits [outputs][count][classes]; `place[node]` is the output that a node is, -1 if none. Throws DoesNotFit.
Report evaluate(const Work& work, const PackedWeights& weights, const Images& images, const NodeStatistics* statistics,
                const std::vector<int32_t>& place, int64_t classes, int64_t bound, int threads, float* logits);

// Throws DoesNotFit; std::invalid_argument where a channel has a single value.
Report calibrate(const Work& work, const PackedWeights& weights, const Images& images, int64_t bound, int threads,
                 NodeStatistics& statistics);

}  // namespace nasfast::child_eval
