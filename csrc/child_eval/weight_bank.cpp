#include "weight_bank.h"

#include <ATen/Parallel.h>

namespace nasfast::child_eval {
namespace {

// [O, I, k, k] -> [NB][KB][k*k][8 in][8 out], zeros beyond.
void pack_dense(const float* w, int64_t O, int64_t I, int64_t taps, float* out) {
  const int64_t KB = blocks_of(I);
  for (int64_t nb = 0; nb < blocks_of(O); ++nb)
    for (int64_t kb = 0; kb < KB; ++kb)
      for (int64_t t = 0; t < taps; ++t)
        for (int64_t k = 0; k < kLanes; ++k)
          for (int64_t n = 0; n < kLanes; ++n, ++out) {
            const int64_t o = nb * kLanes + n, i = kb * kLanes + k;
            *out = o < O && i < I ? w[(o * I + i) * taps + t] : 0.0f;
          }
}

// [C, 1, k, k] -> [B][k*k][8]
void pack_depthwise(const float* w, int64_t C, int64_t taps, float* out) {
  for (int64_t b = 0; b < blocks_of(C); ++b)
    for (int64_t t = 0; t < taps; ++t)
      for (int64_t n = 0; n < kLanes; ++n, ++out) {
        const int64_t c = b * kLanes + n;
        *out = c < C ? w[c * taps + t] : 0.0f;
      }
}

void pack_vector(const float* v, int64_t C, float* out) {
  std::fill(out, out + padded_channels(C), 0.0f);
  std::copy(v, v + C, out);
}

struct Expected {
  std::vector<std::vector<int64_t>> weights;
  int64_t bias = 0;  // its size; 0: none
};

Expected expected_tensors(const Primitive& p) {
  Expected e;
  const int64_t k = p.kernel;
  switch (p.kind) {
    case PrimitiveKind::kConv:
      e.weights = {{p.c_out, p.c_in, k, k}};
      break;
    case PrimitiveKind::kDepthwise:
      e.weights = {{p.c_in, 1, k, k}};
      break;
    case PrimitiveKind::kInvertedResidual:
      if (p.has(kExpand)) e.weights.push_back({p.c_hidden, p.c_in, 1, 1});
      e.weights.push_back({p.c_hidden, 1, k, k});
      e.weights.push_back({p.c_out, p.c_hidden, 1, 1});
      break;
    case PrimitiveKind::kHead:
      e.weights = {{p.c_out, p.c_in}};
      break;
    default:
      break;
  }
  if (p.has(kHasBias)) e.bias = p.c_out;
  return e;
}

void check_primitive(const Primitive& p, int64_t index) {
  const auto want = [&](bool ok, const char* what) {
    TORCH_CHECK(ok, "child_eval: primitive ", index, " must have ", what);
  };
  want(p.c_in > 0 && p.c_out > 0 && p.c_hidden >= 0, "channels above 0");
  want(p.stride == 1 || p.stride == 2, "stride 1 or 2");
  if (p.kind == PrimitiveKind::kConv)
    want(p.kernel % 2 == 1 && p.kernel <= 7 && p.dilation >= 1, "kernel 1, 3, 5 or 7");
  if (p.kind == PrimitiveKind::kDepthwise || p.kind == PrimitiveKind::kInvertedResidual)
    want(p.kernel == 3 || p.kernel == 5 || p.kernel == 7, "a depthwise kernel of 3, 5 or 7");
  if (p.is_pool()) want(p.kernel == 2 || p.kernel == 3, "a window of 2 or 3");
  if (p.kind == PrimitiveKind::kInvertedResidual)
    want(p.has(kExpand) || p.c_hidden == p.c_in, "as many hidden as input channels without expansion");
  if (p.has(kResidual)) want(p.c_in == p.c_out && p.stride == 1, "equal shapes for its residual");
}

}  // namespace

std::vector<int64_t> Primitive::norms() const {
  if (kind == PrimitiveKind::kInvertedResidual)
    return has(kExpand) ? std::vector<int64_t>{c_hidden, c_hidden, c_out} : std::vector<int64_t>{c_hidden, c_out};
  return has(kHasNorm) ? std::vector<int64_t>{c_out} : std::vector<int64_t>{};
}

std::vector<Primitive> parse_primitives(const at::Tensor& table) {
  TORCH_CHECK(table.dim() == 2 && table.size(1) == Primitive::kFields && table.scalar_type() == at::kLong &&
                  table.is_contiguous(),
              "child_eval: primitives must be a contiguous int64 [P, ", Primitive::kFields, "], got ", table.sizes());
  std::vector<Primitive> out;
  for (int64_t i = 0; i < table.size(0); ++i) {
    const int64_t* f = table.const_data_ptr<int64_t>() + i * Primitive::kFields;
    TORCH_CHECK(f[0] >= 0 && f[0] <= static_cast<int64_t>(PrimitiveKind::kSum), "child_eval: primitive ", i,
                " must be of kind 0 to 7, got ", f[0]);
    out.push_back({static_cast<PrimitiveKind>(f[0]),
                   f[1],
                   f[2],
                   f[3],
                   static_cast<Act>(f[4]),
                   static_cast<Act>(f[5]),
                   f[6],
                   f[7],
                   f[8],
                   f[9],
                   f[10],
                   {f[11], f[12]}});
    check_primitive(out.back(), i);
  }
  return out;
}

std::vector<Macro> parse_macros(const at::Tensor& table, const std::vector<Primitive>& primitives) {
  TORCH_CHECK(
      table.dim() == 2 && table.size(1) == Macro::kFields && table.scalar_type() == at::kLong && table.is_contiguous(),
      "child_eval: operations must be a contiguous int64 [M, ", Macro::kFields, "], got ", table.sizes());
  std::vector<Macro> out;
  for (int64_t i = 0; i < table.size(0); ++i) {
    const int64_t* f = table.const_data_ptr<int64_t>() + i * Macro::kFields;
    const Macro m{static_cast<MacroKind>(f[0]), f[1], f[2], f[3], f[4], f[5], f[6] != 0, f[7]};
    TORCH_CHECK(m.first_primitive >= 0 && m.primitives >= 0 &&
                    m.first_primitive + m.primitives <= static_cast<int64_t>(primitives.size()) &&
                    (m.kind != MacroKind::kOperation || m.primitives > 0),
                "child_eval: operation ", i, " must be made of known primitives");
    for (int64_t k = 0; k < m.primitives; ++k)
      for (int64_t in : primitives[m.first_primitive + k].input)
        TORCH_CHECK(in >= -1 && in < k, "child_eval: primitives of operation ", i, " must read earlier results");
    out.push_back(m);
  }
  return out;
}

float* WeightBank::take(int64_t elements) {
  storage_.push_back(at::empty({elements + 16}, at::kFloat));
  return storage_.back().data_ptr<float>();
}

WeightBank::WeightBank(const std::vector<Primitive>& primitives, const std::vector<uint8_t>& used,
                       at::TensorList tensors, const std::vector<double>& eps)
    : packed_(primitives.size()) {
  struct Job {
    const Primitive* primitive;
    PackedPrimitive* packed;
    Expected expected;
    std::vector<at::Tensor> values;
  };
  std::vector<Job> jobs;
  size_t norm = 0;
  for (size_t i = 0; i < primitives.size(); ++i) {
    const Primitive& p = primitives[i];
    const auto norms = p.norms();
    norm += norms.size();
    TORCH_CHECK(norm <= eps.size(), "child_eval: eps must hold one number for each normalisation, got ", eps.size());
    if (!used[i]) continue;
    PackedPrimitive& packed = packed_[i];
    Job job{&p, &packed, expected_tensors(p), {}};
    int64_t at = p.first_tensor;
    const auto next = [&](at::IntArrayRef shape) {
      TORCH_CHECK(at < static_cast<int64_t>(tensors.size()), "child_eval: primitive ", i, " lacks tensor ", at);
      const at::Tensor& t = tensors[at++];
      TORCH_CHECK(t.sizes() == shape && t.scalar_type() == at::kFloat && t.device().is_cpu(),
                  "child_eval: weights must be float32 on the CPU, tensor ", at - 1, " of shape ", shape, ", got ",
                  t.scalar_type(), " on ", t.device(), " of shape ", t.sizes());
      job.values.push_back(t.contiguous());
    };
    for (size_t k = 0; k < job.expected.weights.size(); ++k) {
      const auto& shape = job.expected.weights[k];
      next(shape);
      const bool depthwise = p.kind == PrimitiveKind::kDepthwise ||
                             (p.kind == PrimitiveKind::kInvertedResidual && k + 2 == job.expected.weights.size());
      const int64_t taps = shape.size() == 4 ? shape[2] * shape[3] : 1;
      packed.weights[k] = take(padded_channels(shape[0]) * (depthwise ? 1 : padded_channels(shape[1])) * taps);
    }
    if (job.expected.bias) {
      next({job.expected.bias});
      const int64_t padded = padded_channels(job.expected.bias);
      float* vectors = take(2 * padded);
      pack_vector(job.values.back().const_data_ptr<float>(), job.expected.bias, vectors);
      std::fill(vectors + padded, vectors + 2 * padded, 1.0f);
      packed.bias = vectors;
      packed.ones = vectors + padded;
    }
    for (size_t k = 0; k < norms.size(); ++k) {
      const int64_t C = norms[k], padded = padded_channels(C);
      for (int v = 0; v < 4; ++v) next({C});
      float* vectors = take(4 * padded);
      const at::Tensor* value = &job.values[job.values.size() - 4];
      Norm n{C, vectors, vectors + padded, vectors + 2 * padded, vectors + 3 * padded, eps[norm - norms.size() + k]};
      pack_vector(value[0].const_data_ptr<float>(), C, vectors + 2 * padded);
      pack_vector(value[1].const_data_ptr<float>(), C, vectors + 3 * padded);
      std::fill(vectors, vectors + 2 * padded, 0.0f);
      const float *mean = value[2].const_data_ptr<float>(), *variance = value[3].const_data_ptr<float>();
      for (int64_t c = 0; c < C; ++c) {
        const double scale = n.gamma[c] / std::sqrt(static_cast<double>(variance[c]) + n.eps);
        n.scale[c] = static_cast<float>(scale);
        n.shift[c] = static_cast<float>(n.beta[c] - mean[c] * scale);
      }
      packed.norms.push_back(n);
    }
    jobs.push_back(std::move(job));
  }
  at::parallel_for(0, static_cast<int64_t>(jobs.size()), 1, [&](int64_t begin, int64_t end) {
    for (int64_t j = begin; j < end; ++j) {
      const Job& job = jobs[j];
      const Primitive& p = *job.primitive;
      for (size_t k = 0; k < job.expected.weights.size(); ++k) {
        const auto& shape = job.expected.weights[k];
        const float* w = job.values[k].const_data_ptr<float>();
        float* out = job.packed->weights[k];
        if (p.kind == PrimitiveKind::kHead) {
          const int64_t padded = padded_channels(shape[1]);
          for (int64_t o = 0; o < shape[0]; ++o) pack_vector(w + o * shape[1], shape[1], out + o * padded);
        } else if (shape[1] == 1 &&
                   (p.kind == PrimitiveKind::kDepthwise ||
                    (p.kind == PrimitiveKind::kInvertedResidual && k + 2 == job.expected.weights.size()))) {
          pack_depthwise(w, shape[0], shape[2] * shape[3], out);
        } else {
          pack_dense(w, shape[0], shape[1], shape[2] * shape[3], out);
        }
      }
    }
  });
}

}  // namespace nasfast::child_eval
