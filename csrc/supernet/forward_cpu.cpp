// Forward on the CPU: stage by stage, every step of a stage on every slice of its images in one parallel loop.
//
// A convolution writes its result before normalisation, with the moments of the slice; those are joined in the order of
// slices in float64 (Chan, Golub, LeVeque, 1979), so that the number of threads does not show. Nothing is normalised in
// memory: the next unit, sum or pool does that as it reads.
#include <algorithm>

#include "executor_cpu.h"

namespace nasfast::supernet {
namespace {

template <class A>
class Forward : private Executor<A> {
  using Base = Executor<A>;
  using Base::call_;
  using Base::data_;
  using Base::k_;
  using Base::pool_;
  using Base::tape_;

 public:
  explicit Forward(const Call& call) : Base(call, false) {}

  ForwardResult<A> run() {
    const OutputShape& shape = tape_.output;
    const int64_t N = tape_.groups * tape_.images;
    const Value& last = tape_.values[tape_.outputs[0]];
    const auto options = call_.images.options();
    result_.out = shape.logits ? at::empty({N, shape.channels}, options)
                               : cached_empty_channels_last(N, last.channels, last.h, last.w, scalar_type<A>());
    result_.kept = cached_empty({tape_.kept_elements}, scalar_type<A>());
    result_.stats = at::empty({tape_.stats_elements}, options.dtype(at::kDouble));
    for (size_t v = 0; v < tape_.values.size(); ++v)
      if (tape_.values[v].kept) data_[v] = result_.kept.template data_ptr<A>() + tape_.values[v].offset;
    this->reserve_scratch(scratch_elements());
    index_releases();
    for (size_t i = 0; i < tape_.stages.size(); ++i) stage(static_cast<int>(i));
    if (!shape.logits) emit();
    return result_;
  }

 private:
  int64_t scratch_elements() const {
    int64_t most = 0;
    for (const Step& s : tape_.steps) {
      if (s.kind != StepKind::kUnit) continue;
      const ConvShape shape = tape_.shape(s, 0);
      if (s.unit->kind == UnitKind::kConv) most = std::max(most, supernet::conv_scratch(shape));
      if (s.unit->kind == UnitKind::kDepthwise) most = std::max(most, supernet::depthwise_scratch(shape));
      if (s.unit->is_pool()) most = std::max(most, supernet::pool_scratch(shape));
    }
    return most;
  }

  // Values that are free after each stage.
  void index_releases() {
    releases_.resize(tape_.stages.size() + 1);
    for (size_t v = 0; v < tape_.values.size(); ++v) {
      const Value& value = tape_.values[v];
      if (value.data == static_cast<int>(v) && !value.kept && value.last_stage >= 0)
        releases_[value.last_stage].push_back(static_cast<int>(v));
    }
  }

  void stage(int at) {
    const Stage& st = tape_.stages[at];
    const Step* steps = tape_.steps.data() + st.first_step;
    int64_t room = 0;
    moments_at_.assign(st.steps, -1);
    for (int i = 0; i < st.steps; ++i) {
      const int owner = tape_.values[steps[i].out].data;
      if (!data_[owner]) data_[owner] = pool_.take(tape_.elements(tape_.values[owner]));
      if (steps[i].unit && steps[i].unit->norm >= 0) {
        moments_at_[i] = room;
        room += tape_.slices * 2 * padded_channels(tape_.values[steps[i].out].channels);
      }
    }
    moments_.resize(room);
    this->each_slice(st.steps, [&](int64_t i, int slice, A* scratch) { step(steps[i], i, slice, scratch); });
    for (int n = st.first_norm; n < st.first_norm + st.norms; ++n) settle(n, st.first_step);
    for (int v : releases_[at]) {
      pool_.give(data_[v], tape_.elements(tape_.values[v]));
      data_[v] = nullptr;
    }
  }

  void step(const Step& s, int64_t at, int slice, A* scratch) {
    const Value& y = tape_.values[s.out];
    const int64_t first = s.group * tape_.images + static_cast<int64_t>(slice) * kSliceImages;
    A* out = this->data(s.out, slice);
    if (tape_.values[y.data].kept && y.data == s.out) fill_gaps(y, slice, out);
    if (s.kind == StepKind::kPack) return pack_slice(call_.images, first, tape_.slice_images(slice), out);
    if (s.kind == StepKind::kFill) return void(std::fill(out, out + tape_.slice_stride(y), A(0)));
    if (s.kind == StepKind::kSum) return sum(s, slice, out);
    if (s.kind == StepKind::kConcat) return concat(s, slice, out);
    unit(s, slice, first, scratch, out);
    if (moments_at_[at] < 0) return;
    const int64_t padded = padded_channels(y.channels);
    double* moments = moments_.data() + moments_at_[at] + slice * 2 * padded;
    k_.moments(this->blocks(y), this->pixels(y, slice), out, moments, moments + padded);
  }

  // What is kept has no bits that nobody wrote: the same call gives the same tensor.
  void fill_gaps(const Value& v, int slice, A* out) const {
    const int pixels = this->pixels(v, slice);
    const int64_t used =
        v.pooled ? tape_.slice_images(slice) * padded_channels(v.channels) : value_elements(v.channels, pixels);
    for (int b = 0; b < this->blocks(v) && !v.pooled; ++b)
      std::fill(out + b * block_stride(pixels) + static_cast<ptrdiff_t>(pixels) * kLanes,
                out + (b + 1) * block_stride(pixels), A(0));
    std::fill(out + used, out + tape_.slice_stride(v), A(0));
  }

  void sum(const Step& s, int slice, A* out) {
    const Value& y = tape_.values[s.out];
    std::vector<Read<A>> terms;
    for (int i = 0; i < s.inputs; ++i) terms.push_back(this->read(tape_.in(s)[i], slice));
    k_.combine(this->blocks(y), this->pixels(y, slice), terms.data(), s.inputs, out);
  }

  void concat(const Step& s, int slice, A* out) {
    const Value& y = tape_.values[s.out];
    const int pixels = this->pixels(y, slice);
    const ptrdiff_t block = block_stride(pixels);
    int64_t at = 0;
    for (int i = 0; i < s.inputs; ++i) {
      const int64_t channels = tape_.values[tape_.in(s)[i]].channels;
      const Read<A> r = this->read(tape_.in(s)[i], slice);
      for (int64_t c = 0; c < channels; ++c, ++at) {
        const A *from = r.x + c / kLanes * block + c % kLanes, scale = r.scale ? r.scale[c] : A(1);
        const A shift = r.scale ? r.shift[c] : A(0);
        A* to = out + at / kLanes * block + at % kLanes;
        for (int64_t p = 0; p < pixels; ++p) {
          A v = from[p * kLanes] * scale + shift;
          if (r.act != Act::kNone && v < A(0)) v = A(0);
          if (r.act == Act::kRelu6 && v > A(6)) v = A(6);
          to[p * kLanes] = v;
        }
      }
    }
    for (; at < padded_channels(y.channels); ++at)
      for (int64_t p = 0; p < pixels; ++p) out[at / kLanes * block + at % kLanes + p * kLanes] = A(0);
  }

  void unit(const Step& s, int slice, int64_t first, A* scratch, A* out) {
    const Unit& u = *s.unit;
    const int x = tape_.in(s)[0];
    const Value& from = tape_.values[x];
    const ConvShape shape = tape_.shape(s, slice);
    const Read<A> r = this->read(x, slice, u.before);
    const PackedUnit<A>& w = this->bank_[&u];
    switch (u.kind) {
      case UnitKind::kConv:
        return k_.conv(shape, r, w.weight, scratch, out);
      case UnitKind::kDepthwise: {
        return k_.depthwise(shape, r, w.weight, scratch, out);
      }
      case UnitKind::kAveragePool:
      case UnitKind::kMaximumPool:
        return k_.pool(shape, u.kind == UnitKind::kMaximumPool ? PoolKind::kMaximum : PoolKind::kAverage, r, scratch,
                       out);
      case UnitKind::kPick:
        return pick_slice(shape, u.kernel - 1, r, out);
      case UnitKind::kHead:
        return k_.head(shape.images, this->blocks(from), from.h * from.w, r, w.weight, w.bias,
                       static_cast<int>(u.c_out), out, result_.out.template data_ptr<A>() + first * u.c_out, u.c_out);
      default: {  // a normalisation in place, or a copy; an activation
        if (tape_.values[s.out].data == from.data) return;
        Read<A> copy = r;
        if (u.norm < 0) copy.then = std::max(u.before, u.after);  // relu6 after relu is relu6, and the reverse
        return k_.combine(this->blocks(from), this->pixels(from, slice), &copy, 1, out);
      }
    }
  }

  // Statistics of a normalisation over all slices of its members.
  void settle(int norm, int first_step) {
    const NormUse& use = tape_.norms[norm];
    if (use.unit->norm < 0 || use.stats_offset < 0) return this->set_running_norm(norm);
    const int64_t padded = padded_channels(use.channels);
    std::vector<double> mean(use.channels, 0), squares(use.channels, 0);
    double count = 0;
    for (int member : use.members) {
      const Value& y = tape_.values[tape_.steps[member].out];
      for (int slice = 0; slice < tape_.slices; ++slice) {
        const double* m = moments_.data() + moments_at_[member - first_step] + slice * 2 * padded;
        const double more = this->pixels(y, slice), share = more / (count + more);
        for (int64_t c = 0; c < use.channels; ++c) {
          const double delta = m[c] - mean[c];
          squares[c] += m[padded + c] + delta * delta * count * share;
          mean[c] += delta * share;
        }
        count += more;
      }
    }
    double* stats = result_.stats.template data_ptr<double>() + use.stats_offset;
    for (int64_t c = 0; c < use.channels; ++c) {
      stats[c] = mean[c];
      stats[use.channels + c] = squares[c] / count;
    }
    this->set_norm(norm, stats);
  }

  void emit() {
    this->each_slice(tape_.groups, [&](int64_t g, int slice, A*) {
      const int64_t first = g * tape_.images + static_cast<int64_t>(slice) * kSliceImages;
      const int v = tape_.outputs[g];
      if (!tape_.values[v].zero)
        return unpack_slice(this->read(v, slice), result_.out, first, tape_.slice_images(slice));
      const std::vector<A> nothing(tape_.slice_stride(tape_.values[v]), A(0));
      Read<A> r;
      r.x = nothing.data();
      unpack_slice(r, result_.out, first, tape_.slice_images(slice));
    });
  }

  ForwardResult<A> result_;
  std::vector<std::vector<int>> releases_;
  std::vector<int64_t> moments_at_;  // by step of the stage
  std::vector<double> moments_;
};

}  // namespace

template <class A>
ForwardResult<A> forward_cpu(const Call& call) {
  return Forward<A>(call).run();
}

template ForwardResult<float> forward_cpu<float>(const Call&);
template ForwardResult<double> forward_cpu<double>(const Call&);

}  // namespace nasfast::supernet
