// Statistics of a task's result: moments of every run of pixels, joined in float64 by the last block, in a fixed order
// (Chan, Golub, LeVeque 1979; see core/moments.cuh). BatchNorm's scale and shift follow in the same place.
#pragma once

#include "../core/moments.cuh"
#include "task_args.h"

namespace nasfast::child_eval {

// Called by all THREADS threads of the blocks of one group of at most WIDTH channels from c0 on, after their moments
// are stored. scratch: 3 * THREADS doubles.
template <int WIDTH, int THREADS>
__device__ __forceinline__ void finish_norm(const Statistics& s, const TaskShape& shape, int group,
                                            const Shared<double>& scratch) {
  if (!last_block(s.counters + group, shape.runs)) return;
  const int c0 = group * WIDTH, ld = shape.out_ld;
  sum_runs<WIDTH, 3, THREADS>(
      shape.runs, min(WIDTH, ld - c0), scratch,
      [&](int run, int c, double (&v)[3]) {
        moment_sums(load_moments(s.partial + static_cast<int64_t>(run) * kMomentRows * ld, ld, c0 + c), v);
      },
      [&](int channel, const double (&v)[3]) {
        const int c = c0 + channel;
        const double mean = v[1] / v[0], squares = v[2] - v[1] * mean;
        const double gamma = gload(s.norm + c), beta = gload(s.norm + ld + c);
        const auto write = [&](float* to, double variance) {
          double scale = 0, shift = 0;
          if (c < shape.channels) {
            scale = gamma / sqrt((variance < 0 ? 0.0 : variance) + static_cast<double>(s.eps));
            shift = beta - mean * scale;
          }
          gstore(to + c, static_cast<float>(scale));
          gstore(to + ld + c, static_cast<float>(shift));
        };
        write(s.used, squares / v[0]);
        write(s.kept, squares / (v[0] - 1));
      });
}

}  // namespace nasfast::child_eval
