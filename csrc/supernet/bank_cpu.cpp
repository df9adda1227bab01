#include "bank_cpu.h"

#include <ATen/Parallel.h>

#include <algorithm>

#include "../aten/buffer_cache.h"

namespace nasfast::supernet {
namespace {

// [outer/8][inner/8][taps][8 inner][8 outer]; `swap`: outer are the input channels.
template <class A>
void pack_dense(const Unit& u, const WeightView<A>& w, bool swap, int64_t outer_block, A* out) {
  const int64_t outer = swap ? u.c_in : u.c_out, inner = swap ? u.c_out : u.c_in;
  const int64_t outer_stride = swap ? w.in : w.out, inner_stride = swap ? w.out : w.in;
  const int taps = u.kernel * u.kernel;
  const int64_t lanes = std::min<int64_t>(kLanes, outer - outer_block * kLanes);
  for (int64_t ib = 0; ib < blocks_of(inner); ++ib)
    for (int t = 0; t < taps; ++t) {
      const A* tap = w.data + w.tap(t, u.kernel) + outer_block * kLanes * outer_stride;
      for (int64_t i = ib * kLanes; i < (ib + 1) * kLanes; ++i, out += kLanes) {
        std::fill(out, out + kLanes, A(0));
        for (int64_t o = 0; i < inner && o < lanes; ++o) out[o] = tap[o * outer_stride + i * inner_stride];
      }
    }
}

template <class A>
void pack_depthwise(const Unit& u, const WeightView<A>& w, bool reversed, A* out) {
  const int taps = u.kernel * u.kernel;
  for (int64_t c = 0; c < padded_channels(u.c_in); ++c)
    for (int t = 0; t < taps; ++t)
      out[(c / kLanes * taps + (reversed ? taps - 1 - t : t)) * kLanes + c % kLanes] =
          c < u.c_in ? w.data[c * w.out + w.tap(t, u.kernel)] : A(0);
}

int64_t weight_elements(const Unit& u) {
  return u.kind == UnitKind::kHead ? u.c_out * padded_channels(u.c_in) : grad_elements(u);
}

}  // namespace

template <class A>
Bank<A>::Bank(const Program& program, const std::vector<uint8_t>& used, at::TensorList params, bool backward)
    : units_(program.units.data()), packed_(program.units.size()) {
  struct Job {
    const Unit* unit;
    bool grad;
    int64_t block;  // of a dense weight; -1: the whole unit
    A* to;
  };
  std::vector<Job> jobs;
  int64_t total = 0;
  const auto reserve = [&](int64_t elements) {
    const int64_t at = total;
    total += ceil_div(elements, 16) * 16;
    return reinterpret_cast<A*>(at * static_cast<int64_t>(sizeof(A)));  // an offset until there is storage
  };
  for (size_t i = 0; i < used.size(); ++i) {
    const Unit& u = program.units[i];
    if (!used[i] || u.weight < 0) continue;
    packed_[i].weight = reserve(weight_elements(u));
    if (backward && u.is_conv()) packed_[i].grad = reserve(weight_elements(u));
    if (u.bias >= 0) packed_[i].bias = reserve(padded_channels(u.c_out));
  }
  storage_ = cached_empty({std::max<int64_t>(total, 1)}, scalar_type<A>());
  char* base = static_cast<char*>(storage_.data_ptr());
  const auto place = [&](A* offset) { return reinterpret_cast<A*>(base + reinterpret_cast<intptr_t>(offset)); };
  for (size_t i = 0; i < used.size(); ++i) {
    const Unit& u = program.units[i];
    if (!used[i] || u.weight < 0) continue;
    PackedUnit<A>& p = packed_[i];
    p.weight = place(p.weight);
    if (backward && u.is_conv()) p.grad = place(p.grad);
    if (u.bias >= 0) {
      p.bias = place(p.bias);
      std::fill(p.bias, p.bias + padded_channels(u.c_out), A(0));
      const at::Tensor& b = params[u.bias];
      for (int64_t c = 0; c < u.c_out; ++c) p.bias[c] = b.template const_data_ptr<A>()[c * b.stride(0)];
    }
    if (u.kind != UnitKind::kConv) {
      jobs.push_back({&u, false, -1, p.weight});
      if (p.grad) jobs.push_back({&u, true, -1, p.grad});
      continue;
    }
    const int64_t taps = static_cast<int64_t>(u.kernel) * u.kernel, out = blocks_of(u.c_out), in = blocks_of(u.c_in);
    for (int64_t b = 0; b < out; ++b) jobs.push_back({&u, false, b, p.weight + b * in * taps * kLanes * kLanes});
    for (int64_t b = 0; p.grad && b < in; ++b) jobs.push_back({&u, true, b, p.grad + b * out * taps * kLanes * kLanes});
  }
  at::parallel_for(0, static_cast<int64_t>(jobs.size()), 16, [&](int64_t begin, int64_t end) {
    for (int64_t j = begin; j < end; ++j) {
      const Job& job = jobs[j];
      const Unit& u = *job.unit;
      const auto w = weight_view<A>(params[u.weight], u);
      if (u.kind == UnitKind::kConv) {
        pack_dense(u, w, job.grad, job.block, job.to);
      } else if (u.kind == UnitKind::kDepthwise) {
        pack_depthwise(u, w, job.grad && u.stride == 1, job.to);
      } else {
        const int64_t in = padded_channels(u.c_in);
        for (int64_t o = 0; o < u.c_out; ++o)
          for (int64_t i = 0; i < in; ++i) job.to[o * in + i] = i < u.c_in ? w.data[o * w.out + i * w.in] : A(0);
      }
    }
  });
}

template <class A>
void add_packed_grad(const Unit& u, int64_t block, const A* packed, int64_t copies, const WeightView<A>& grad) {
  const int64_t size = grad_elements(u), first = block * kLanes, lanes = std::min<int64_t>(kLanes, u.c_in - first);
  const int taps = u.kernel * u.kernel;
  const auto total = [&](int64_t at) {
    A sum = packed[at];
    for (int64_t c = 1; c < copies; ++c) sum += packed[c * size + at];
    return sum;
  };
  if (u.kind == UnitKind::kDepthwise) {
    for (int64_t i = 0; i < lanes; ++i)
      for (int t = 0; t < taps; ++t)
        grad.data[(first + i) * grad.out + grad.tap(t, u.kernel)] += total((block * taps + t) * kLanes + i);
    return;
  }
  const int64_t row = padded_channels(u.c_out);
  for (int64_t o = 0; o < u.c_out; ++o)
    for (int64_t i = 0; i < lanes; ++i)
      for (int t = 0; t < taps; ++t)
        grad.data[o * grad.out + (first + i) * grad.in + grad.tap(t, u.kernel)] +=
            total(((block * taps + t) * kLanes + i) * row + o);
}

template class Bank<float>;
template class Bank<double>;
template void add_packed_grad(const Unit&, int64_t, const float*, int64_t, const WeightView<float>&);
template void add_packed_grad(const Unit&, int64_t, const double*, int64_t, const WeightView<double>&);

}  // namespace nasfast::supernet
