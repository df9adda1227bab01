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

// [O, I] -> [O][B*8]
void pack_rows(const float* w, int64_t O, int64_t I, float* out) {
  for (int64_t o = 0; o < O; ++o) pack_vector(w + o * I, I, out + o * padded_channels(I));
}

Norm fold(const float* gamma, const float* beta, const float* mean, const float* variance, int64_t C, double eps,
          float* vectors) {
  const int64_t padded = padded_channels(C);
  Norm n{C, vectors, vectors + padded, vectors + 2 * padded, vectors + 3 * padded, eps};
  pack_vector(gamma, C, vectors + 2 * padded);
  pack_vector(beta, C, vectors + 3 * padded);
  std::fill(vectors, vectors + 2 * padded, 0.0f);
  for (int64_t c = 0; c < C; ++c) {
    const double scale = gamma[c] / std::sqrt(static_cast<double>(variance[c]) + eps);
    n.scale[c] = static_cast<float>(scale);
    n.shift[c] = static_cast<float>(beta[c] - mean[c] * scale);
  }
  return n;
}

}  // namespace

float* WeightBank::take(int64_t elements) {
  storage_.push_back(at::empty({elements + 16}, at::kFloat));
  return storage_.back().data_ptr<float>();
}

WeightBank::WeightBank(const std::vector<Primitive>& primitives, const std::vector<uint8_t>& used,
                       at::TensorList tensors, at::ArrayRef<double> eps)
    : packed_(primitives.size()) {
  const auto named = name_tensors(primitives, used, tensors, eps, at::kCPU);
  const auto data = [&](size_t i) { return named[i].tensor.const_data_ptr<float>(); };
  std::vector<size_t> weights;  // packed last, by all threads
  for (size_t i = 0; i < named.size(); ++i) {
    const NamedTensor& t = named[i];
    PackedPrimitive& packed = packed_[t.primitive];
    const int64_t C = t.tensor.size(0), padded = padded_channels(C);
    switch (t.role) {
      case TensorRole::kWeight: {
        const bool depthwise = is_depthwise_weight(primitives[t.primitive], t.number);
        const int64_t taps = t.tensor.dim() == 4 ? t.tensor.size(2) * t.tensor.size(3) : 1;
        packed.weights[t.number] = take(padded * (depthwise ? 1 : padded_channels(t.tensor.size(1))) * taps);
        weights.push_back(i);
        break;
      }
      case TensorRole::kBias: {
        float* vectors = take(2 * padded);
        pack_vector(data(i), C, vectors);
        std::fill(vectors + padded, vectors + 2 * padded, 1.0f);
        packed.bias = vectors;
        packed.ones = vectors + padded;
        break;
      }
      case TensorRole::kNorm:
        if (t.part == 3)
          packed.norms.push_back(fold(data(i - 3), data(i - 2), data(i - 1), data(i), C, t.eps, take(4 * padded)));
        break;
    }
  }
  at::parallel_for(0, static_cast<int64_t>(weights.size()), 1, [&](int64_t begin, int64_t end) {
    for (int64_t j = begin; j < end; ++j) {
      const NamedTensor& t = named[weights[j]];
      const Primitive& p = primitives[t.primitive];
      const float* w = t.tensor.const_data_ptr<float>();
      float* out = packed_[t.primitive].weights[t.number];
      const int64_t O = t.tensor.size(0), I = t.tensor.size(1);
      if (p.kind == PrimitiveKind::kHead)
        pack_rows(w, O, I, out);
      else if (is_depthwise_weight(p, t.number))
        pack_depthwise(w, O, t.tensor.size(2) * t.tensor.size(3), out);
      else
        pack_dense(w, O, I, t.tensor.size(2) * t.tensor.size(3), out);
    }
  });
}

}  // namespace nasfast::child_eval
