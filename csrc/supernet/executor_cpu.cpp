#include "executor_cpu.h"

#include <algorithm>
#include <cmath>

namespace nasfast::supernet {
namespace {

std::vector<uint8_t> used_units(const Program& program, const Tape& tape, bool backward) {
  if (backward) return tape.alive_units(program);
  std::vector<uint8_t> used(program.units.size(), 0);
  for (const Step& s : tape.steps)
    if (s.unit) used[s.unit - program.units.data()] = 1;
  return used;
}

}  // namespace

template <class A>
Executor<A>::Executor(const Call& call, bool backward)
    : call_(call),
      program_(call.program),
      tape_(call.tape),
      k_(kernels<A>()),
      threads_(at::get_num_threads()),
      bank_(call.program, used_units(call.program, call.tape, backward), call.params, backward),
      data_(call.tape.values.size(), nullptr),
      norms_(call.tape.norms.size()) {
  int64_t total = 0;
  for (const NormUse& use : tape_.norms) total += 3 * padded_channels(use.channels);
  norm_storage_ = at::zeros({std::max<int64_t>(total, 1)}, at::TensorOptions().dtype(scalar_type<A>()));
  A* p = norm_storage_.template data_ptr<A>();
  for (size_t i = 0; i < norms_.size(); ++i) {
    const int64_t padded = padded_channels(tape_.norms[i].channels);
    norms_[i].scale = p;
    norms_[i].shift = p + padded;
    norms_[i].mean = p + 2 * padded;
    p += 3 * padded;
  }
}

template <class A>
void Executor<A>::reserve_scratch(int64_t elements) {
  scratch_elements_ = ceil_div(elements, 16) * 16 + 16;
  scratch_storage_ = cached_empty({threads_ * scratch_elements_}, scalar_type<A>());
  scratch_ = scratch_storage_.template data_ptr<A>();
}

template <class A>
void Executor<A>::set_norm(int norm, const double* stats) {
  const NormUse& use = tape_.norms[norm];
  NormRows<A>& rows = norms_[norm];
  const Unit& u = *use.unit;
  if (!stats) {
    std::fill(rows.scale, rows.scale + use.channels, A(1));
    std::copy(bank_[&u].bias, bank_[&u].bias + use.channels, rows.shift);
    return;
  }
  const at::Tensor &gamma = call_.params[u.gamma], &beta = call_.params[u.beta];
  const A *g = gamma.template const_data_ptr<A>(), *b = beta.template const_data_ptr<A>();
  rows.exact_mean.assign(stats, stats + use.channels);
  rows.rstd.resize(use.channels);
  for (int64_t c = 0; c < use.channels; ++c) {
    const double mean = stats[c], rstd = 1.0 / std::sqrt(stats[use.channels + c] + call_.eps[u.norm]);
    const double scale = static_cast<double>(g[c * gamma.stride(0)]) * rstd;
    rows.rstd[c] = rstd;
    rows.mean[c] = static_cast<A>(mean);
    rows.scale[c] = static_cast<A>(scale);
    rows.shift[c] = static_cast<A>(static_cast<double>(b[c * beta.stride(0)]) - mean * scale);
  }
}

template <class A>
void Executor<A>::set_running_norm(int norm) {
  const NormUse& use = tape_.norms[norm];
  if (use.unit->norm < 0) return set_norm(norm, nullptr);
  std::vector<double> stats(2 * use.channels);
  for (int row = 0; row < 2; ++row) {
    const at::Tensor& t = call_.running[2 * use.unit->norm + row];
    for (int64_t c = 0; c < use.channels; ++c)
      stats[row * use.channels + c] = static_cast<double>(t.template const_data_ptr<A>()[c * t.stride(0)]);
  }
  set_norm(norm, stats.data());
}

template <class A>
Read<A> Executor<A>::read(int value, int slice, Act then) const {
  const Value& v = tape_.values[value];
  Read<A> r;
  r.x = data(value, slice);
  if (v.norm >= 0) {
    r.scale = norms_[v.norm].scale;
    r.shift = norms_[v.norm].shift;
  }
  r.act = v.act;
  r.then = then;
  return r;
}

template <class A>
void pack_slice(const at::Tensor& images, int64_t first, int count, A* out) {
  const int64_t C = images.size(1), H = images.size(2), W = images.size(3), stride = block_stride(count * H * W);
  const A* data = images.template const_data_ptr<A>();
  for (int64_t c = 0; c < padded_channels(C); ++c) {
    A* to = out + c / kLanes * stride + c % kLanes;
    for (int64_t n = 0; n < count; ++n)
      for (int64_t y = 0; y < H; ++y)
        for (int64_t x = 0; x < W; ++x, to += kLanes)
          *to = c < C ? data[(first + n) * images.stride(0) + c * images.stride(1) + y * images.stride(2) +
                             x * images.stride(3)]
                      : A(0);
  }
}

template <class A>
void unpack_slice(const Read<A>& r, const at::Tensor& images, int64_t first, int count) {
  const int64_t C = images.size(1), H = images.size(2), W = images.size(3), stride = block_stride(count * H * W);
  A* data = static_cast<A*>(images.data_ptr());
  for (int64_t c = 0; c < C; ++c) {
    const A* from = r.x + c / kLanes * stride + c % kLanes;
    const A scale = r.scale ? r.scale[c] : A(1), shift = r.scale ? r.shift[c] : A(0);
    for (int64_t n = 0; n < count; ++n)
      for (int64_t y = 0; y < H; ++y)
        for (int64_t x = 0; x < W; ++x, from += kLanes) {
          A v = *from * scale + shift;
          if (r.act != Act::kNone && v < A(0)) v = A(0);
          if (r.act == Act::kRelu6 && v > A(6)) v = A(6);
          data[(first + n) * images.stride(0) + c * images.stride(1) + y * images.stride(2) + x * images.stride(3)] = v;
        }
  }
}

namespace {

// f(block, element of the input, element of the output) for every pixel that is picked.
template <class F>
void each_pick(const ConvShape& s, int offset, const F& f) {
  for (int b = 0; b < s.blocks_in; ++b)
    for (int n = 0; n < s.images; ++n)
      for (int y = 0; y < s.h; ++y)
        for (int x = 0; x < s.w; ++x) {
          const int64_t in = (static_cast<int64_t>(n) * s.H + 2 * y + offset) * s.W + 2 * x + offset;
          const int64_t out = (static_cast<int64_t>(n) * s.h + y) * s.w + x;
          f(b, b * block_stride(s.pixels_in()) + in * kLanes, b * block_stride(s.pixels_out()) + out * kLanes);
        }
}

template <class A>
A activate(A v, Act act) {
  if (act != Act::kNone && v < A(0)) v = A(0);
  return act == Act::kRelu6 && v > A(6) ? A(6) : v;
}

template <class A>
A value_at(const Read<A>& x, int block, int64_t at, int lane) {
  const A scale = x.scale ? x.scale[block * kLanes + lane] : A(1);
  const A shift = x.scale ? x.shift[block * kLanes + lane] : A(0);
  return activate(x.x[at + lane] * scale + shift, x.act);
}

}  // namespace

template <class A>
void pick_slice(const ConvShape& s, int offset, const Read<A>& x, A* out) {
  each_pick(s, offset, [&](int b, int64_t in, int64_t to) {
    for (int i = 0; i < kLanes; ++i) out[to + i] = activate(value_at(x, b, in, i), x.then);
  });
}

template <class A>
void pick_grad_slice(const ConvShape& s, int offset, const Read<A>& x, const A* dy, bool add, A* gx) {
  if (!add) std::fill(gx, gx + value_elements(s.blocks_in * kLanes, s.pixels_in()), A(0));
  each_pick(s, offset, [&](int b, int64_t in, int64_t from) {
    for (int i = 0; i < kLanes; ++i) {
      const A v = x.then == Act::kNone ? A(1) : value_at(x, b, in, i);
      const bool closed = v <= A(0) || (x.then == Act::kRelu6 && v >= A(6));  // never for NaN
      gx[in + i] += closed ? A(0) : dy[from + i];
    }
  });
}

template void pick_slice(const ConvShape&, int, const Read<float>&, float*);
template void pick_slice(const ConvShape&, int, const Read<double>&, double*);
template void pick_grad_slice(const ConvShape&, int, const Read<float>&, const float*, bool, float*);
template void pick_grad_slice(const ConvShape&, int, const Read<double>&, const double*, bool, double*);
template class Executor<float>;
template class Executor<double>;
template void pack_slice(const at::Tensor&, int64_t, int, float*);
template void pack_slice(const at::Tensor&, int64_t, int, double*);
template void unpack_slice(const Read<float>&, const at::Tensor&, int64_t, int);
template void unpack_slice(const Read<double>&, const at::Tensor&, int64_t, int);

}  // namespace nasfast::supernet
