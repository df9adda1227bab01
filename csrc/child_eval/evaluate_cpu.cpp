// Evaluation: each thread walks the whole plan on a slice of the batch.
#include <omp.h>

#include <algorithm>
#include <exception>

#include "executor_common.h"

namespace nasfast::child_eval {
namespace {

constexpr int kMostImages = 8;  // of a slice; any number from 2 to 16 is about as fast

struct Task {
  const Work& work;
  const PackedWeights& weights;
  const Images& images;
  const NodeStatistics* statistics;
  const std::vector<int32_t>& place;
  const Schedule& schedule;
  int64_t classes;
  float* logits;
};

// One thread's walk over one slice.
class Walker {
 public:
  Walker(const Task& task, Arena& arena, float* scratch)
      : t_(task), k_(kernels()), arena_(arena), scratch_(scratch), slots_(task.schedule.slot_count, {nullptr, 0}) {}

  void run(int64_t first, int count) {
    first_ = first;
    count_ = count;
    for (const Step& step : t_.schedule.steps) {
      compute(step);
      for (int32_t f = 0; f < step.frees; ++f) release(t_.schedule.freed[step.first_free + f]);
    }
  }

 private:
  struct Slot {
    float* data;
    int64_t elements;
  };

  void release(int32_t slot) {
    if (slots_[slot].data) arena_.give(slots_[slot].data, slots_[slot].elements);
    slots_[slot].data = nullptr;
  }

  void compute(const Step& step) {
    const Node& n = t_.work.plan.nodes[step.node];
    const Extent e = extent_of(t_.images, n.halvings);
    const int pixels = count_ * e.h * e.w, blocks = static_cast<int>(blocks_of(n.channels));
    const int64_t elements = value_elements(n.channels, pixels);
    const int32_t* in = t_.schedule.slots.data() + step.first_input;
    if (n.kind == NodeKind::kOperation) return operation(step, n, slots_[in[0]].data);
    float* out = arena_.take(elements);
    slots_[step.slot] = {out, elements};
    switch (n.kind) {
      case NodeKind::kInput:
        return pack_images(t_.images, first_, count_, out);
      case NodeKind::kZero:
        return fill_zero(out, elements);
      case NodeKind::kSum: {
        std::vector<const float*> xs;
        for (int32_t i = 0; i < n.inputs; ++i) xs.push_back(slots_[in[i]].data);
        return k_.sum(blocks, pixels, xs.data(), n.inputs, out);
      }
      default: {
        std::vector<std::pair<const float*, int>> parts;
        for (int32_t i = 0; i < n.inputs; ++i)
          parts.emplace_back(slots_[in[i]].data, t_.work.plan.nodes[t_.work.plan.inputs_of(n)[i]].channels);
        return concat(parts, n.channels, pixels, out);
      }
    }
  }

  void operation(const Step& step, const Node& n, const float* x) {
    const Macro& macro = t_.work.plan.macros[n.macro];
    const Extent in = extent_of(t_.images, t_.work.plan.nodes[t_.work.plan.inputs_of(n)[0]].halvings);
    const MacroPlan plan = macro_plan(t_.work, macro, in);
    const float* statistics = nullptr;
    if (t_.statistics && t_.statistics->offset[step.node] >= 0)
      statistics = t_.statistics->values.data() + t_.statistics->offset[step.node];
    std::vector<Slot> results(macro.primitives);
    for (int64_t k = 0; k < macro.primitives; ++k) {
      const int64_t index = macro.first_primitive + k;
      const Primitive& p = t_.work.primitives[index];
      const auto source = [&](int i) { return p.input[i] < 0 ? x : results[p.input[i]].data; };
      if (p.kind == PrimitiveKind::kHead) {
        float* out = t_.logits + (static_cast<int64_t>(t_.place[step.node]) * t_.images.count + first_) * t_.classes;
        const PackedPrimitive& w = t_.weights[index];
        k_.head(count_, static_cast<int>(blocks_of(p.c_in)), plan.in[k].h * plan.in[k].w, source(0), w.weights[0],
                w.bias, static_cast<int>(p.c_out), scratch_, out, t_.classes);
      } else {
        results[k].elements = value_elements(p.c_out, static_cast<int64_t>(count_) * plan.out[k].h * plan.out[k].w);
        results[k].data = arena_.take(results[k].elements);
        primitive(p, t_.weights[index], plan.in[k], source(0), p.reads_two() ? source(1) : nullptr, statistics,
                  results[k].data);
      }
      if (k + 1 == macro.primitives) slots_[step.slot] = results[k];
      for (int64_t j = 0; j < k; ++j)
        if (plan.last_reader[j] == k) arena_.give(results[j].data, results[j].elements);
    }
  }

  // Of the node where calibrated (`statistics` moves on), else of the running statistics.
  Affine normalise(const Norm& norm, Act act, const float*& statistics) const {
    if (!statistics) return {norm.scale, norm.shift, act};
    const int64_t padded = padded_channels(norm.channels);
    const Affine a{statistics, statistics + padded, act};
    statistics += 2 * padded;
    return a;
  }

  void primitive(const Primitive& p, const PackedPrimitive& w, Extent in, const float* x, const float* other,
                 const float*& statistics, float* out) {
    const ConvShape s = shape_of(p, count_, in);
    const Affine before{nullptr, nullptr, p.act_before};
    Affine after{nullptr, nullptr, p.act_after};
    if (p.kind != PrimitiveKind::kInvertedResidual && !w.norms.empty())
      after = normalise(w.norms[0], p.act_after, statistics);
    else if (w.bias)
      after = {w.ones, w.bias, p.act_after};
    switch (p.kind) {
      case PrimitiveKind::kConv:
        return k_.conv(s, x, before, w.weights[0], after, scratch_, out);
      case PrimitiveKind::kDepthwise:
        return k_.depthwise(s, x, before, w.weights[0], after, scratch_, out);
      case PrimitiveKind::kInvertedResidual: {
        const int skip = p.has(kExpand) ? 0 : 1;
        InvertedResidual r{};
        r.expand = skip ? nullptr : w.weights[0];
        r.depthwise = w.weights[1 - skip];
        r.project = w.weights[2 - skip];
        if (!skip) r.expanded = normalise(w.norms[0], Act::kRelu6, statistics);
        r.spread = normalise(w.norms[1 - skip], Act::kRelu6, statistics);
        r.projected = normalise(w.norms[2 - skip], Act::kNone, statistics);
        r.hidden_blocks = static_cast<int>(blocks_of(p.c_hidden));
        r.residual = p.has(kResidual);
        return k_.inverted_residual(s, x, r, scratch_, out);
      }
      case PrimitiveKind::kAveragePool:
        return k_.pool(s, PoolKind::kAverage, x, scratch_, out);
      case PrimitiveKind::kMaximumPool:
        return k_.pool(s, PoolKind::kMaximum, x, scratch_, out);
      case PrimitiveKind::kNorm:
        return k_.affine(s.blocks_in, s.pixels_in(), x, after, nullptr, out);
      case PrimitiveKind::kSum: {
        const float* xs[2] = {x, other};
        return k_.sum(s.blocks_in, s.pixels_in(), xs, 2, out);
      }
      case PrimitiveKind::kJoin: {
        const int channels = static_cast<int>(p.c_in);
        return concat({{x, channels}, {other, channels}}, 2 * channels, s.pixels_in(), out);
      }
      case PrimitiveKind::kHead:
        break;
    }
  }

  const Task& t_;
  const Kernels& k_;
  Arena& arena_;
  float* scratch_;
  std::vector<Slot> slots_;
  int64_t first_ = 0;
  int count_ = 0;
};

struct Layout {
  int threads, slice;
  int64_t scratch, value_bound;  // elements; bytes of one thread's values
  Schedule schedule;
};

// As many images in a slice as fit, then as many threads, then with values computed again.
Layout choose_layout(const Work& work, const Images& images, int64_t bound, int threads) {
  threads = static_cast<int>(std::min<int64_t>(threads, images.count));
  int slice = static_cast<int>(std::min<int64_t>(kMostImages, ceil_div(images.count, threads)));
  const auto attempt = [&](int at_threads, int at_slice, bool again) {
    Layout l{at_threads, at_slice, scratch_elements(work, images, at_slice, false), 0, {}};
    const int64_t scratch_bytes = l.scratch * static_cast<int64_t>(sizeof(float));
    l.value_bound = bound / at_threads - scratch_bytes;
    const auto bytes = node_bytes(work, images, at_slice, 1, false);
    try {
      l.schedule = make_schedule(work.plan, work.live, bytes, again ? l.value_bound : INT64_MAX);
    } catch (const DoesNotFit& e) {
      throw DoesNotFit(at_threads * (e.needed + scratch_bytes));
    }
    return l;
  };
  while (true) {
    Layout l = attempt(threads, slice, false);
    if (l.schedule.peak_bytes <= l.value_bound) return l;
    if (slice > 1)
      slice /= 2;
    else if (threads > 1)
      threads /= 2;
    else
      return attempt(1, 1, true);
  }
}

}  // namespace

Report evaluate(const Work& work, const PackedWeights& weights, const Images& images, const NodeStatistics* statistics,
                const std::vector<int32_t>& place, int64_t classes, int64_t bound, int threads, float* logits) {
  const Layout layout = choose_layout(work, images, bound, threads);
  const Task task{work, weights, images, statistics, place, layout.schedule, classes, logits};
  const int64_t slices = ceil_div(images.count, layout.slice);
  Meter meter;
  Arena fixed(INT64_MAX, meter);
  std::vector<std::unique_ptr<Arena>> arenas;
  std::vector<std::unique_ptr<Walker>> walkers;
  std::vector<float*> scratch;
  for (int i = 0; i < layout.threads; ++i) {
    arenas.push_back(std::make_unique<Arena>(layout.value_bound, meter));
    scratch.push_back(fixed.take(layout.scratch));
    walkers.push_back(std::make_unique<Walker>(task, *arenas.back(), scratch.back()));
  }
  std::exception_ptr error;
#pragma omp parallel for num_threads(layout.threads) schedule(dynamic, 1)
  for (int64_t i = 0; i < slices; ++i) {
    try {
      const int64_t first = i * layout.slice;
      walkers[omp_get_thread_num()]->run(first,
                                         static_cast<int>(std::min<int64_t>(layout.slice, images.count - first)));
    } catch (...) {
#pragma omp critical
      error = std::current_exception();
    }
  }
  for (float* p : scratch) fixed.give(p, layout.scratch);
  if (error) std::rethrow_exception(error);
  return {meter.peak(), layout.schedule.computed_again, layout.threads, layout.slice};
}

}  // namespace nasfast::child_eval
