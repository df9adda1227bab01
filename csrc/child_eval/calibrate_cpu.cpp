// Calibration: batch statistics of every normalisation of every distinct node, in one pass over the merged plan.
//
// A step is done for all slices before the next one: a convolution with the moments of what it gives, slice by slice;
// the moments joined in the order of slices (Chan, Golub, LeVeque, 1979), so that the number of threads does not show;
// then normalisation, in the same place. Inside an inverted residual the next convolution normalises as it reads.
// As in BatchNorm's training mode, the batch itself is normalised with biased variances, and what evaluation will use
// is made of unbiased ones.
#include <omp.h>

#include <algorithm>
#include <cmath>
#include <exception>

#include "executor_common.h"

namespace nasfast::child_eval {
namespace {

constexpr int kSliceImages = 8;  // fixed: sums are cut where slices are

using Value = std::vector<float*>;  // one buffer per slice

class Calibrator {
 public:
  Calibrator(const Work& work, const PackedWeights& weights, const Images& images, int threads, Arena& arena,
             const std::vector<float*>& scratch, NodeStatistics& statistics)
      : work_(work),
        weights_(weights),
        images_(images),
        threads_(threads),
        slices_(ceil_div(images.count, kSliceImages)),
        k_(kernels()),
        arena_(arena),
        scratch_(scratch),
        statistics_(statistics) {}

  void run(const Schedule& schedule) {
    std::vector<Value> slots(schedule.slot_count);
    std::vector<int64_t> elements(schedule.slot_count, 0);
    for (const Step& step : schedule.steps) {
      const Node& n = work_.plan.nodes[step.node];
      std::vector<const Value*> in;
      for (int32_t i = 0; i < n.inputs; ++i) in.push_back(&slots[schedule.slots[step.first_input + i]]);
      Value out = compute(step.node, n, in);
      elements[step.slot] = elements_of(n.channels, extent_of(images_, n.halvings));
      slots[step.slot] = std::move(out);
      for (int32_t f = 0; f < step.frees; ++f) {
        const int32_t slot = schedule.freed[step.first_free + f];
        give(slots[slot], elements[slot]);
      }
    }
  }

 private:
  int images_in(int64_t slice) const {
    return static_cast<int>(std::min<int64_t>(kSliceImages, images_.count - slice * kSliceImages));
  }
  // Every slice gets the room of a full one.
  static int64_t elements_of(int64_t channels, Extent e) {
    return value_elements(channels, static_cast<int64_t>(kSliceImages) * e.h * e.w);
  }

  Value take(int64_t elements) {
    Value v;
    for (int64_t i = 0; i < slices_; ++i) v.push_back(arena_.take(elements));
    return v;
  }
  void give(Value& v, int64_t elements) {
    for (float* p : v) arena_.give(p, elements);
    v.clear();
  }

  // f(slice, images in it, the thread's scratch)
  template <class F>
  void each_slice(F&& f) {
#pragma omp parallel for num_threads(threads_) schedule(dynamic, 1)
    for (int64_t i = 0; i < slices_; ++i) f(i, images_in(i), scratch_[omp_get_thread_num()]);
  }

  Value compute(int32_t node, const Node& n, const std::vector<const Value*>& in) {
    const Extent e = extent_of(images_, n.halvings);
    const int blocks = static_cast<int>(blocks_of(n.channels));
    if (n.kind == NodeKind::kOperation) return operation(node, n, *in[0]);
    const int64_t elements = elements_of(n.channels, e);
    Value out = take(elements);
    each_slice([&](int64_t i, int images, float*) {
      const int pixels = images * e.h * e.w;
      if (n.kind == NodeKind::kInput) return pack_images(images_, i * kSliceImages, images, out[i]);
      if (n.kind == NodeKind::kZero) return fill_zero(out[i], elements);
      if (n.kind == NodeKind::kSum) {
        std::vector<const float*> xs;
        for (const Value* v : in) xs.push_back((*v)[i]);
        return k_.sum(blocks, pixels, xs.data(), n.inputs, out[i]);
      }
      std::vector<std::pair<const float*, int>> parts;
      for (int32_t j = 0; j < n.inputs; ++j)
        parts.emplace_back((*in[j])[i], work_.plan.nodes[work_.plan.inputs_of(n)[j]].channels);
      concat(parts, n.channels, pixels, out[i]);
    });
    return out;
  }

  Value operation(int32_t node, const Node& n, const Value& x) {
    const Macro& macro = work_.plan.macros[n.macro];
    const Extent in = extent_of(images_, work_.plan.nodes[work_.plan.inputs_of(n)[0]].halvings);
    const MacroPlan plan = macro_plan(work_, macro, in);
    own_.clear();
    start_statistics(node, macro);
    std::vector<Value> results(macro.primitives);
    for (int64_t k = 0; k < macro.primitives; ++k) {
      const Primitive& p = work_.primitives[macro.first_primitive + k];
      const auto source = [&](int i) -> const Value& { return p.input[i] < 0 ? x : results[p.input[i]]; };
      if (p.kind != PrimitiveKind::kHead) {
        results[k] = take(elements_of(p.c_out, plan.out[k]));
        primitive(p, weights_[macro.first_primitive + k], plan.in[k], source(0), p.reads_two() ? &source(1) : nullptr,
                  results[k]);
      }
      for (int64_t j = 0; j < k; ++j)
        if (plan.last_reader[j] == k)
          give(results[j], elements_of(work_.primitives[macro.first_primitive + j].c_out, plan.out[j]));
    }
    return results.back();
  }

  void start_statistics(int32_t node, const Macro& macro) {
    int64_t size = 0;
    for (int64_t k = 0; k < macro.primitives; ++k)
      for (int64_t c : work_.primitives[macro.first_primitive + k].norms()) size += 2 * padded_channels(c);
    if (size == 0) return;
    int64_t& at = statistics_.offset[node];
    if (at < 0) {  // else computed again: the same numbers
      at = static_cast<int64_t>(statistics_.values.size());
      statistics_.values.resize(statistics_.values.size() + size);
    }
    next_ = at;
  }

  // Writes the statistics that evaluation will use; returns the normalisation of `v` itself, valid during the
  // operation.
  Affine statistics_of(const Norm& norm, const Value& v, Extent e, Act act) {
    const int blocks = static_cast<int>(blocks_of(norm.channels));
    const int64_t padded = blocks * kLanes;
    std::vector<double> mean(slices_ * padded), squares(slices_ * padded);
    each_slice([&](int64_t i, int images, float*) {
      k_.moments(blocks, images * e.h * e.w, v[i], mean.data() + i * padded, squares.data() + i * padded);
    });
    float *kept = statistics_.values.data() + next_, *used = own_.emplace_back(2 * padded).data();
    next_ += 2 * padded;
    for (int64_t c = 0; c < padded; ++c) {
      double count = 0, centre = 0, spread = 0;
      for (int64_t i = 0; i < slices_; ++i) {
        const double more = static_cast<double>(images_in(i)) * e.h * e.w, delta = mean[i * padded + c] - centre;
        spread += squares[i * padded + c] + delta * delta * count * more / (count + more);
        centre += delta * more / (count + more);
        count += more;
      }
      if (count < 2) throw std::invalid_argument("child_eval: calibration needs more than one value per channel");
      const auto write = [&](float* to, double variance) {
        const bool real = c < norm.channels;
        const double factor = real ? norm.gamma[c] / std::sqrt(variance + norm.eps) : 0.0;
        to[c] = static_cast<float>(factor);
        to[padded + c] = real ? static_cast<float>(norm.beta[c] - centre * factor) : 0.0f;
      };
      write(kept, spread / (count - 1));
      write(used, spread / count);
    }
    return {used, used + padded, act};
  }

  void inverted_residual(const Primitive& p, const PackedPrimitive& w, Extent in, const Value& x, const Value& out) {
    ConvShape spread = shape_of(p, 0, in);
    spread.blocks_in = spread.blocks_out = static_cast<int>(blocks_of(p.c_hidden));
    const Extent e{spread.h, spread.w};
    const int skip = p.has(kExpand) ? 0 : 1;
    Affine expanded;
    Value hidden;
    if (!skip) {
      hidden = take(elements_of(p.c_hidden, in));
      ConvShape expand{0, static_cast<int>(blocks_of(p.c_in)), spread.blocks_in, in.h, in.w, in.h, in.w, 1, 1, 1};
      convolve(expand, x, {}, w.weights[0], hidden);
      expanded = statistics_of(w.norms[0], hidden, in, Act::kRelu6);
    }
    Value middle = take(elements_of(p.c_hidden, e));
    each_slice([&](int64_t i, int images, float* scratch) {
      ConvShape s = spread;
      s.images = images;
      k_.depthwise(s, skip ? x[i] : hidden[i], expanded, w.weights[1 - skip], {}, scratch, middle[i]);
    });
    give(hidden, elements_of(p.c_hidden, in));
    const Affine after = statistics_of(w.norms[1 - skip], middle, e, Act::kRelu6);
    const ConvShape project{0, spread.blocks_in, static_cast<int>(blocks_of(p.c_out)), e.h, e.w, e.h, e.w, 1, 1, 1};
    convolve(project, middle, after, w.weights[2 - skip], out);
    give(middle, elements_of(p.c_hidden, e));
    normalise(p, e, out, statistics_of(w.norms[2 - skip], out, e, Act::kNone), p.has(kResidual) ? &x : nullptr);
  }

  void convolve(const ConvShape& shape, const Value& x, const Affine& before, const float* w, const Value& out) {
    each_slice([&](int64_t i, int images, float* scratch) {
      ConvShape s = shape;
      s.images = images;
      k_.conv(s, x[i], before, w, {}, scratch, out[i]);
    });
  }

  void normalise(const Primitive& p, Extent e, const Value& v, const Affine& after, const Value* residual) {
    each_slice([&](int64_t i, int images, float*) {
      k_.affine(static_cast<int>(blocks_of(p.c_out)), images * e.h * e.w, v[i], after,
                residual ? (*residual)[i] : nullptr, v[i]);
    });
  }

  void primitive(const Primitive& p, const PackedPrimitive& w, Extent in, const Value& x, const Value* other,
                 const Value& out) {
    if (p.kind == PrimitiveKind::kInvertedResidual) return inverted_residual(p, w, in, x, out);
    const bool norm = !w.norms.empty();
    const Affine before{nullptr, nullptr, p.act_before};
    const Affine after = norm     ? Affine{}
                         : w.bias ? Affine{w.ones, w.bias, p.act_after}
                                  : Affine{nullptr, nullptr, p.act_after};
    if (p.kind == PrimitiveKind::kNorm) {
      const Affine a = norm ? statistics_of(w.norms[0], x, in, p.act_after) : after;
      return each_slice([&](int64_t i, int images, float*) {
        k_.affine(static_cast<int>(blocks_of(p.c_in)), images * in.h * in.w, x[i], a, nullptr, out[i]);
      });
    }
    each_slice([&](int64_t i, int images, float* scratch) {
      const ConvShape s = shape_of(p, images, in);
      if (p.kind == PrimitiveKind::kConv) return k_.conv(s, x[i], before, w.weights[0], after, scratch, out[i]);
      if (p.kind == PrimitiveKind::kDepthwise)
        return k_.depthwise(s, x[i], before, w.weights[0], after, scratch, out[i]);
      if (p.is_pool())
        return k_.pool(s, p.kind == PrimitiveKind::kMaximumPool ? PoolKind::kMaximum : PoolKind::kAverage, x[i],
                       scratch, out[i]);
      const int channels = static_cast<int>(p.c_in);
      if (p.kind == PrimitiveKind::kJoin)
        return concat({{x[i], channels}, {(*other)[i], channels}}, 2 * channels, s.pixels_in(), out[i]);
      const float* xs[2] = {x[i], (*other)[i]};
      k_.sum(s.blocks_in, s.pixels_in(), xs, 2, out[i]);
    });
    const ConvShape s = shape_of(p, 0, in);
    if (norm) normalise(p, {s.h, s.w}, out, statistics_of(w.norms[0], out, {s.h, s.w}, p.act_after), nullptr);
  }

  const Work& work_;
  const PackedWeights& weights_;
  const Images& images_;
  const int threads_;
  const int64_t slices_;
  const Kernels& k_;
  Arena& arena_;
  const std::vector<float*>& scratch_;
  NodeStatistics& statistics_;
  std::vector<std::vector<float>> own_;  // normalisations of the batch itself, of one operation
  int64_t next_ = 0;                     // where the next normalisation's numbers go
};

}  // namespace

Report calibrate(const Work& work, const PackedWeights& weights, const Images& images, int64_t bound, int threads,
                 NodeStatistics& statistics) {
  const int64_t slices = ceil_div(images.count, kSliceImages);
  threads = static_cast<int>(std::min<int64_t>(threads, slices));
  const int64_t scratch = scratch_elements(work, images, kSliceImages, true);
  const int64_t scratch_bytes = threads * scratch * static_cast<int64_t>(sizeof(float));
  const auto bytes = node_bytes(work, images, kSliceImages, slices, true);
  Schedule schedule;
  try {
    schedule = make_schedule(work.plan, work.live, bytes, bound - scratch_bytes);
  } catch (const DoesNotFit& e) {
    throw DoesNotFit(e.needed + scratch_bytes);
  }
  Meter meter;
  Arena arena(bound - scratch_bytes, meter), fixed(INT64_MAX, meter);
  std::vector<float*> buffers;
  for (int i = 0; i < threads; ++i) buffers.push_back(fixed.take(scratch));
  statistics.offset.assign(work.plan.nodes.size(), -1);
  Calibrator(work, weights, images, threads, arena, buffers, statistics).run(schedule);
  for (float* p : buffers) fixed.give(p, scratch);
  return {meter.peak(), schedule.computed_again, threads, kSliceImages};
}

}  // namespace nasfast::child_eval
