// BatchNorm around the CPU kernels: statistics from per-image sums, coefficients, and the backward from two sums.
//
// All of it runs once per channel in float64; the kernels see three numbers a channel.
#pragma once

#include <cmath>
#include <cstdint>
#include <vector>

namespace nasfast::mixed_op {

// Mean and biased variance from {shift, sum(y - shift), sum((y - shift)^2)} of every image, [N][3][Cp], in order.
template <class A>
void combine_stats(const A* partial, int64_t N, int64_t Cp, int64_t image_pixels, A* mean, A* variance) {
  const double m = static_cast<double>(image_pixels), share = 1.0 / m, images = static_cast<double>(N);
  std::vector<double> total_mean(Cp, 0.0), m2(Cp, 0.0);
  for (int64_t n = 0; n < N; ++n) {
    const A *shift = partial + n * 3 * Cp, *sum = shift + Cp;
    for (int64_t c = 0; c < Cp; ++c) total_mean[c] += shift[c] + sum[c] * share;
  }
  for (int64_t c = 0; c < Cp; ++c) total_mean[c] /= images;
  for (int64_t n = 0; n < N; ++n) {
    const A *shift = partial + n * 3 * Cp, *sum = shift + Cp, *square = sum + Cp;
    for (int64_t c = 0; c < Cp; ++c) {
      const double s = sum[c], off = shift[c] + s * share - total_mean[c];
      m2[c] += (square[c] - s * s * share) + m * off * off;
    }
  }
  for (int64_t c = 0; c < Cp; ++c) {
    const double var = m2[c] / (m * images);
    mean[c] = static_cast<A>(total_mean[c]);
    variance[c] = static_cast<A>(var < 0 ? 0 : var);
  }
}

// One BatchNorm's vectors, [Cp] each; gamma and beta null without parameters.
template <class A>
struct NormVectors {
  const A *mean, *variance, *gamma, *beta;
  A *rstd, *scale, *shift;  // z = scale*y + shift
};

template <class A>
void norm_coefficients(const NormVectors<A>& v, double eps, int64_t C, int64_t Cp) {
  for (int64_t c = 0; c < Cp; ++c) {
    v.rstd[c] = c < C ? static_cast<A>(1.0 / std::sqrt(static_cast<double>(v.variance[c]) + eps)) : A(0);
    v.scale[c] = (v.gamma ? v.gamma[c] : A(1)) * v.rstd[c];
    v.shift[c] = (v.beta ? v.beta[c] : A(0)) - v.mean[c] * v.scale[c];
  }
}

// dy = a*G + b*y + c behind a BatchNorm from s0 = sum G and s1 = sum G*y over `count` values; abc: [3][Cp]. `w`: what
// multiplies its output. grads: [2][Cp], of gamma and beta. Returns dL/dw.
template <class A>
double norm_backward(const NormVectors<A>& v, double w, double count, bool batch_stats, const double* s0,
                     const double* s1, int64_t C, int64_t Cp, A* abc, A* grads) {
  double dw = 0;
  for (int64_t c = 0; c < C; ++c) {
    const double r = v.rstd[c], mu = v.mean[c], gamma = v.gamma ? v.gamma[c] : 1.0;
    const double dot = r * (s1[c] - mu * s0[c]);  // sum G*z before the affine part
    dw += gamma * dot + (v.beta ? v.beta[c] * s0[c] : 0.0);
    grads[c] = static_cast<A>(w * dot);
    grads[Cp + c] = static_cast<A>(w * s0[c]);
    const double a = w * gamma * r, b = batch_stats ? -a * r * dot / count : 0.0;
    abc[c] = static_cast<A>(a);
    abc[Cp + c] = static_cast<A>(b);
    abc[2 * Cp + c] = static_cast<A>(batch_stats ? -a * s0[c] / count - b * mu : 0.0);
  }
  return dw;
}

}  // namespace nasfast::mixed_op
