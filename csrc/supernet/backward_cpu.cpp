// Backward on the CPU: the stages in reverse, each in three loops over slices or tasks.
//
//   sums     sum g and sum g*(y - mean) behind every normalisation, g masked by its activation
//   inputs   dy = a*g + b*(y - mean) + c, written once, then the gradient of what the unit read
//   weights  from dy and what was read, cut by input blocks and, where those are few, by slices; where cuts lie depends
//            on shapes alone, and what they give is added up in order
//
// So the bits do not depend on threads. A gradient that several summands receive is passed on without a copy.
#include <algorithm>

#include "executor_cpu.h"

namespace nasfast::supernet {
namespace {

constexpr int64_t kTasks = 8;           // at least so many for the gradient of a weight
constexpr int64_t kBlocksTogether = 4;  // input blocks that share one look at dy

// A buffer that may be the gradient of several values.
template <class A>
struct Shared {
  A* p = nullptr;
  int64_t elements = 0;
  int owners = 0;
};

template <class A>
class Backward : private Executor<A> {
  using Base = Executor<A>;
  using Base::bank_;
  using Base::call_;
  using Base::data_;
  using Base::k_;
  using Base::norms_;
  using Base::pool_;
  using Base::program_;
  using Base::tape_;

 public:
  Backward(const Call& call, const at::Tensor& grad_out, const at::Tensor& kept, const at::Tensor& stats,
           const Wanted& wanted)
      : Base(call, true), grad_out_(grad_out), wanted_(wanted), grad_(tape_.values.size(), -1) {
    for (size_t v = 0; v < tape_.values.size(); ++v)
      if (tape_.values[v].kept) data_[v] = kept.template data_ptr<A>() + tape_.values[v].offset;
    for (size_t n = 0; n < tape_.norms.size(); ++n) {
      const int64_t at = tape_.norms[n].stats_offset;
      if (at >= 0)
        this->set_norm(n, stats.template const_data_ptr<double>() + at);
      else
        this->set_running_norm(n);
    }
    for (size_t i = 0; i < call.params.size(); ++i)
      grads_.params.push_back(wanted.params[i] ? at::zeros_like(call.params[i]) : at::Tensor());
    if (wanted.images) grads_.images = at::zeros_like(call.images);
    this->reserve_scratch(scratch_elements());
  }

  Grads run() {
    if (!tape_.output.logits) start();
    for (size_t i = tape_.stages.size(); i-- > 0;) stage(tape_.stages[i]);
    return grads_;
  }

 private:
  int64_t scratch_elements() const {
    int64_t most = 0;
    for (const Step& s : tape_.steps) {
      if (s.kind != StepKind::kUnit || !tape_.is_alive(s)) continue;
      const ConvShape shape = tape_.shape(s, 0);
      most = std::max<int64_t>(most, padded_channels(tape_.values[tape_.in(s)[0]].channels));
      if (s.unit->kind == UnitKind::kConv)
        most = std::max({most, supernet::conv_input_grad_scratch(shape),
                         supernet::conv_weight_grad_scratch(shape, kBlocksTogether)});
      if (s.unit->kind == UnitKind::kDepthwise) most = std::max(most, supernet::depthwise_scratch(shape));
      if (s.unit->is_pool()) most = std::max(most, supernet::pool_scratch(shape));
    }
    return most;
  }

  // buffers

  int own(int64_t elements) {
    buffers_.push_back({pool_.take(elements), elements, 1});
    return static_cast<int>(buffers_.size()) - 1;
  }
  void release(int b) {
    if (b >= 0 && --buffers_[b].owners == 0) pool_.give(buffers_[b].p, buffers_[b].elements);
  }
  A* slice_of(int b, const Value& v, int slice) const { return buffers_[b].p + slice * tape_.slice_stride(v); }

  bool wants(int v) const {
    const Value& x = tape_.values[v];
    return x.alive && !x.zero && !x.constant && (!x.images || wanted_.images);
  }
  bool wants_param(int64_t p) const { return p >= 0 && wanted_.params[p]; }

  // Where the gradient of a value goes: its buffer, and whether something is there to add to.
  struct Target {
    int buffer = -1;
    bool add = false;
  };
  Target target(int v) {
    if (!wants(v)) return {};
    if (grad_[v] >= 0) return {grad_[v], true};
    grad_[v] = own(tape_.elements(tape_.values[v]));
    return {grad_[v], false};
  }

  void start() {
    for (int64_t g = 0; g < tape_.groups; ++g) {
      const int v = tape_.outputs[g];
      if (wants(v)) grad_[v] = own(tape_.elements(tape_.values[v]));
    }
    this->each_slice(tape_.groups, [&](int64_t g, int slice, A*) {
      const int v = tape_.outputs[g];
      if (grad_[v] >= 0)
        pack_slice(grad_out_, g * tape_.images + static_cast<int64_t>(slice) * kSliceImages, tape_.slice_images(slice),
                   slice_of(grad_[v], tape_.values[v], slice));
    });
  }

  void stage(const Stage& st) {
    stage_first_ = st.first_step;
    first_norm_ = st.first_norm;
    std::vector<const Step*> units, sums;
    for (int i = st.first_step; i < st.first_step + st.steps; ++i) {
      const Step& s = tape_.steps[i];
      if (!tape_.is_alive(s)) continue;
      if (s.kind == StepKind::kUnit) units.push_back(&s);
      if (s.kind == StepKind::kUnit && grad_[s.out] < 0 && !tape_.values[s.out].pooled) no_grad(s.out);
      if (s.kind == StepKind::kSum) sums.push_back(&s);
      if (s.kind == StepKind::kConcat) concat(s);
      if (s.kind == StepKind::kPack && wanted_.images && grad_[s.out] >= 0) images(s);
    }
    if (!sums.empty()) sums_of(sums);
    if (units.empty()) return;
    norm_sums(units, st);
    input_grads(units);
    weight_grads(units);
    for (const Step* s : units) {
      release(dy_[s - tape_.steps.data() - st.first_step]);
      grad_[s->out] = -1;
    }
  }

  // Of a value that the output depends on through the statistics of others alone.
  void no_grad(int v) {
    const int64_t elements = tape_.elements(tape_.values[v]);
    grad_[v] = own(elements);
    std::fill(buffers_[grad_[v]].p, buffers_[grad_[v]].p + elements, A(0));
  }

  void images(const Step& s) {
    const Value& v = tape_.values[s.out];
    for (int slice = 0; slice < tape_.slices; ++slice) {
      Read<A> r;
      r.x = slice_of(grad_[s.out], v, slice);
      unpack_slice(r, grads_.images, s.group * tape_.images + static_cast<int64_t>(slice) * kSliceImages,
                   tape_.slice_images(slice));
    }
    release(grad_[s.out]);
    grad_[s.out] = -1;
  }

  // Each summand receives the gradient as it is: the one that nothing else reads takes the buffer, others a copy.
  void sums_of(const std::vector<const Step*>& steps) {
    struct Copy {
      const Value* value;
      int from;
      Target to;
    };
    std::vector<Copy> copies;
    const auto flush = [&] {
      this->each_slice(static_cast<int64_t>(copies.size()), [&](int64_t i, int slice, A*) {
        const Value& v = *copies[i].value;
        k_.pass_grad(this->blocks(v), this->pixels(v, slice), slice_of(copies[i].from, v, slice), Read<A>{},
                     copies[i].to.add, slice_of(copies[i].to.buffer, v, slice));
      });
      copies.clear();
    };
    for (const Step* s : steps) {
      const int g = grad_[s->out];
      for (int i = 0; i < s->inputs; ++i) {
        const int v = tape_.in(*s)[i];
        if (!wants(v)) continue;
        if (tape_.values[v].readers == 1) {
          grad_[v] = g;
          ++buffers_[g].owners;
          continue;
        }
        const Target to = target(v);
        const auto same = [&](const Copy& c) { return c.to.buffer == to.buffer; };
        if (std::any_of(copies.begin(), copies.end(), same)) flush();
        copies.push_back({&tape_.values[v], g, to});
      }
    }
    flush();
    for (const Step* s : steps) {
      release(grad_[s->out]);
      grad_[s->out] = -1;
    }
  }

  void concat(const Step& s) {
    const Value& y = tape_.values[s.out];
    int64_t at = 0;
    for (int i = 0; i < s.inputs; ++i) {
      const int v = tape_.in(s)[i];
      const Value& x = tape_.values[v];
      const Target to = target(v);
      if (to.buffer >= 0)
        this->each_slice(1, [&](int64_t, int slice, A*) {
          const int pixels = this->pixels(y, slice);
          const ptrdiff_t block = block_stride(pixels);
          const A* g = slice_of(grad_[s.out], y, slice);
          A* gx = slice_of(to.buffer, x, slice);
          for (int64_t c = 0; c < padded_channels(x.channels); ++c) {
            const bool real = c < x.channels;
            const A* from = g + (real ? (at + c) / kLanes * block + (at + c) % kLanes : 0);
            A* out = gx + c / kLanes * block + c % kLanes;
            for (int64_t p = 0; p < pixels * kLanes; p += kLanes)
              out[p] = (to.add ? out[p] : A(0)) + (real ? from[p] : A(0));
          }
        });
      at += x.channels;
    }
    release(grad_[s.out]);
    grad_[s.out] = -1;
  }

  // Coefficients behind every normalisation of the stage, and the gradients of its gamma and beta.
  void norm_sums(const std::vector<const Step*>& units, const Stage& st) {
    const auto number = [&](const Step* s) { return s - tape_.steps.data() - st.first_step; };
    dy_.assign(st.steps, -1);
    for (const Step* s : units) dy_[number(s)] = grad_[s->out];
    std::vector<int64_t> at(st.steps, -1);
    int64_t room = 0, rows = 0;
    for (const Step* s : units) {
      if (tape_.values[s->out].norm < 0) continue;
      at[number(s)] = room;
      room += tape_.slices * 2 * padded_channels(tape_.values[s->out].channels);
    }
    std::vector<double> partial(room, 0.0);
    if (room > 0)
      this->each_slice(units.size(), [&](int64_t i, int slice, A*) {
        const Step& s = *units[i];
        const Value& y = tape_.values[s.out];
        if (y.norm < 0) return;
        k_.norm_sums(this->blocks(y), this->pixels(y, slice), slice_of(grad_[s.out], y, slice),
                     this->read(s.out, slice), norms_[y.norm].mean,
                     partial.data() + at[number(&s)] + slice * 2 * padded_channels(y.channels));
      });
    coefficients_at_.clear();
    for (int n = st.first_norm; n < st.first_norm + st.norms; ++n) {
      coefficients_at_.push_back(rows);
      rows += 3 * padded_channels(tape_.norms[n].channels);
    }
    coefficients_.assign(rows, A(0));
    for (int n = st.first_norm; n < st.first_norm + st.norms; ++n) {
      const NormUse& use = tape_.norms[n];
      const int64_t padded = padded_channels(use.channels);
      std::vector<double> total(2 * padded, 0.0);
      for (int member : use.members) {
        const int64_t from = at[member - st.first_step];
        for (int slice = 0; from >= 0 && slice < tape_.slices; ++slice)
          for (int64_t c = 0; c < 2 * padded; ++c) total[c] += partial[from + slice * 2 * padded + c];
      }
      settle(n, total.data(), total.data() + padded, coefficients_.data() + coefficients_at_[n - st.first_norm]);
    }
  }

  void settle(int n, const double* s0, const double* s1, A* abc) {
    const NormUse& use = tape_.norms[n];
    const Unit& u = *use.unit;
    const int64_t padded = padded_channels(use.channels);
    const auto add = [&](int64_t param, int64_t c, double v) {
      if (!wants_param(param)) return;
      const at::Tensor& g = grads_.params[param];
      g.template data_ptr<A>()[c * g.stride(0)] += static_cast<A>(v);
    };
    for (int64_t c = 0; c < use.channels; ++c) {
      if (u.norm < 0) {
        add(u.bias, c, s0[c]);
        abc[c] = A(1);
        continue;
      }
      const double rstd = norms_[n].rstd[c], off = norms_[n].exact_mean[c] - static_cast<double>(norms_[n].mean[c]);
      const double dot = rstd * (s1[c] - off * s0[c]);  // sum g * the normalised value
      add(u.gamma, c, dot);
      add(u.beta, c, s0[c]);
      const at::Tensor& gamma = call_.params[u.gamma];
      const double a = static_cast<double>(gamma.template const_data_ptr<A>()[c * gamma.stride(0)]) * rstd;
      abc[c] = static_cast<A>(a);
      if (!this->batch_statistics(use)) continue;
      const double b = -a * rstd * dot / use.count;
      abc[padded + c] = static_cast<A>(b);
      abc[2 * padded + c] = static_cast<A>(-a * s0[c] / use.count - b * off);
    }
  }

  NormGrad<A> norm_grad(const Value& y) const {
    NormGrad<A> n;
    if (y.norm < 0) return n;
    const A* abc = coefficients_.data() + coefficients_at_[y.norm - first_norm_];
    const int64_t padded = padded_channels(y.channels);
    n.a = abc;
    if (this->batch_statistics(tape_.norms[y.norm])) {
      n.b = abc + padded;
      n.c = abc + 2 * padded;
      n.mean = norms_[y.norm].mean;
    }
    return n;
  }

  void input_grads(const std::vector<const Step*>& units) {
    std::vector<Target> targets;
    std::vector<int> from;  // buffer of g, where dy is another one
    const int64_t first = stage_first_;
    for (const Step* s : units) {
      const Value& y = tape_.values[s->out];
      int& dy = dy_[s - tape_.steps.data() - first];
      from.push_back(dy);
      const bool changes = y.norm >= 0 || y.act != Act::kNone;
      if (changes && buffers_[dy].owners > 1) dy = own(tape_.elements(y));
      targets.push_back(target(tape_.in(*s)[0]));
    }
    this->each_slice(units.size(), [&](int64_t i, int slice, A* scratch) {
      const Step& s = *units[i];
      const Value& y = tape_.values[s.out];
      const int dy = dy_[&s - tape_.steps.data() - first];
      if (y.norm >= 0 || y.act != Act::kNone)
        k_.norm_grad(this->blocks(y), this->pixels(y, slice), slice_of(from[i], y, slice), this->read(s.out, slice),
                     norm_grad(y), slice_of(dy, y, slice));
      if (targets[i].buffer < 0) return;
      const Value& x = tape_.values[tape_.in(s)[0]];
      unit(s, slice, dy < 0 ? nullptr : slice_of(dy, y, slice), targets[i].add, slice_of(targets[i].buffer, x, slice),
           scratch);
    });
    for (size_t i = 0; i < units.size(); ++i)
      if (from[i] != dy_[units[i] - tape_.steps.data() - first]) release(from[i]);
  }

  void unit(const Step& s, int slice, const A* dy, bool add, A* gx, A* scratch) {
    const Unit& u = *s.unit;
    const int x = tape_.in(s)[0];
    const Value& from = tape_.values[x];
    const ConvShape shape = tape_.shape(s, slice);
    const PackedUnit<A>& w = bank_[&u];
    Read<A> r;  // of what is not kept, the values do not matter
    if (data_[from.data]) r = this->read(x, slice, u.before);
    switch (u.kind) {
      case UnitKind::kConv:
        return k_.conv_input_grad(shape, dy, w.grad, r, add, scratch, gx);
      case UnitKind::kDepthwise:
        return k_.depthwise_input_grad(shape, dy, w.grad, r, add, scratch, gx);
      case UnitKind::kAveragePool:
      case UnitKind::kMaximumPool:
        return k_.pool_grad(shape, u.kind == UnitKind::kMaximumPool ? PoolKind::kMaximum : PoolKind::kAverage, r, dy,
                            add, scratch, gx);
      case UnitKind::kPick:
        return pick_grad_slice(shape, u.kernel - 1, r, dy, add, gx);
      case UnitKind::kHead: {
        const int64_t first = s.group * tape_.images + static_cast<int64_t>(slice) * kSliceImages;
        return k_.head_input_grad(shape.images, this->blocks(from), from.h * from.w,
                                  grad_out_.template const_data_ptr<A>() + first * u.c_out, u.c_out, w.weight,
                                  static_cast<int>(u.c_out), add, scratch, gx);
      }
      default: {
        if (u.norm < 0) r.then = std::max(u.before, u.after);
        return k_.pass_grad(this->blocks(from), this->pixels(from, slice), dy, r, add, gx);
      }
    }
  }

  // weights

  // A unit of the stage: its steps, and how its work is cut.
  struct WeightJob {
    const Unit* unit;
    std::vector<const Step*> steps;
    int64_t ranges, chunks, items;
    int64_t at;  // of its packed gradient
  };

  void weight_grads(const std::vector<const Step*>& units) {
    std::vector<WeightJob> jobs;
    for (const Step* s : units) {
      if (s->unit->kind == UnitKind::kHead) head(*s);
      if (!s->unit->is_conv() || !wants_param(s->unit->weight)) continue;
      auto it = std::find_if(jobs.begin(), jobs.end(), [&](const WeightJob& j) { return j.unit == s->unit; });
      if (it == jobs.end()) it = jobs.insert(jobs.end(), WeightJob{s->unit, {}, 0, 0, 0, 0});
      it->steps.push_back(s);
    }
    int64_t room = 0;
    struct Task {
      const WeightJob* job;
      int64_t range, chunk;
    };
    std::vector<Task> tasks;
    for (WeightJob& j : jobs) {
      j.items = static_cast<int64_t>(j.steps.size()) * tape_.slices;
      j.ranges = ceil_div(blocks_of(j.unit->c_in), kBlocksTogether);
      j.chunks = std::min(j.items, std::max<int64_t>(1, kTasks / j.ranges));
      j.at = room;
      room += j.chunks * grad_elements(*j.unit);
      for (int64_t c = 0; c < j.chunks; ++c)
        for (int64_t r = 0; r < j.ranges; ++r) tasks.push_back({&j, r, c});
    }
    if (jobs.empty()) return;
    A* packed = pool_.take(room);
    this->each_task(static_cast<int64_t>(tasks.size()), [&](int64_t i, A* scratch) {
      weight_task(*tasks[i].job, tasks[i].range, tasks[i].chunk, packed + tasks[i].job->at, scratch);
    });
    for (const WeightJob& j : jobs) {  // one after the other: units may share a parameter
      const auto view = weight_view<A>(grads_.params[j.unit->weight], *j.unit);
      this->each_task(blocks_of(j.unit->c_in),
                      [&](int64_t b, A*) { add_packed_grad(*j.unit, b, packed + j.at, j.chunks, view); });
    }
    pool_.give(packed, room);
  }

  void weight_task(const WeightJob& j, int64_t range, int64_t chunk, A* packed, A* scratch) {
    const Unit& u = *j.unit;
    const int64_t size = grad_elements(u), block = size / blocks_of(u.c_in), first = range * kBlocksTogether;
    const int64_t count = std::min(kBlocksTogether, blocks_of(u.c_in) - first);
    A* gw = packed + chunk * size + first * block;
    std::fill(gw, gw + count * block, A(0));
    for (int64_t i = j.items * chunk / j.chunks; i < j.items * (chunk + 1) / j.chunks; ++i) {
      const Step& s = *j.steps[i / tape_.slices];
      const int slice = static_cast<int>(i % tape_.slices);
      const A* dy = slice_of(dy_[&s - tape_.steps.data() - stage_first_], tape_.values[s.out], slice);
      const auto run = u.kind == UnitKind::kConv ? k_.conv_weight_grad : k_.depthwise_weight_grad;
      run(tape_.shape(s, slice), this->read(tape_.in(s)[0], slice, u.before), dy, static_cast<int>(first),
          static_cast<int>(count), scratch, gw);
    }
  }

  void head(const Step& s) {
    const Unit& u = *s.unit;
    const int64_t padded = padded_channels(u.c_in), first = s.group * tape_.images;
    const at::Tensor gw = wants_param(u.weight) ? grads_.params[u.weight] : at::Tensor();
    const at::Tensor gb = wants_param(u.bias) ? grads_.params[u.bias] : at::Tensor();
    this->each_task(u.c_out, [&](int64_t c, A*) {
      const A* g = grad_out_.template const_data_ptr<A>() + first * u.c_out + c;
      for (int64_t n = 0; n < tape_.images; ++n, g += u.c_out) {
        const A* pooled = this->data(s.out, static_cast<int>(n / kSliceImages)) + n % kSliceImages * padded;
        for (int64_t i = 0; gw.defined() && i < u.c_in; ++i)
          gw.template data_ptr<A>()[c * gw.stride(0) + i * gw.stride(1)] += *g * pooled[i];
        if (gb.defined()) gb.template data_ptr<A>()[c * gb.stride(0)] += *g;
      }
    });
  }

  const at::Tensor& grad_out_;
  const Wanted& wanted_;
  Grads grads_;
  std::vector<int> grad_;  // buffer of every value's gradient; -1: none
  std::vector<Shared<A>> buffers_;
  std::vector<int> dy_;  // buffer of every step of the stage
  std::vector<int64_t> coefficients_at_;
  std::vector<A> coefficients_;
  int first_norm_ = 0;
  int64_t stage_first_ = 0;
};

}  // namespace

template <class A>
Grads backward_cpu(const Call& call, const at::Tensor& grad_out, const at::Tensor& kept, const at::Tensor& stats,
                   const Wanted& wanted) {
  return Backward<A>(call, grad_out, kept, stats, wanted).run();
}

template Grads backward_cpu<float>(const Call&, const at::Tensor&, const at::Tensor&, const at::Tensor&, const Wanted&);
template Grads backward_cpu<double>(const Call&, const at::Tensor&, const at::Tensor&, const at::Tensor&,
                                    const Wanted&);

}  // namespace nasfast::supernet
