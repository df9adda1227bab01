// BatchNorm's backward at one channel, from S0 = sum G and S1 = sum G*y over `count` values. In float64: once a
// channel.
#pragma once

#include "image.cuh"

namespace nasfast::mixed_op {

struct NormGrad {
  double weight;               // dL/dw of what multiplies its output
  float gamma, beta, a, b, c;  // dL/dgamma, dL/dbeta; dL/dy = a*G + b*y + c
};

__device__ __forceinline__ NormGrad norm_backward(const NormAt& v, double w, double count, bool batch_stats, double s0,
                                                  double s1) {
  const double r = v.rstd, dot = r * (s1 - v.mean * s0);  // sum G*z before gamma and beta
  const double a = w * v.gamma * r, b = batch_stats ? -a * r * dot / count : 0.0;
  const double c = batch_stats ? -a * s0 / count - b * v.mean : 0.0;
  return {v.gamma * dot + v.beta * s0, static_cast<float>(w * dot), static_cast<float>(w * s0),
          static_cast<float>(a),       static_cast<float>(b),       static_cast<float>(c)};
}

__device__ __forceinline__ void store_coefficients(float* out, int C, int channel, float a, float b, float c) {
  gstore(out + channel, a);
  gstore(out + C + channel, b);
  gstore(out + 2 * C + channel, c);
}

__device__ __forceinline__ void store_norm_grad(const NormGrad& grad, int C, int c, float* coefficients,
                                                const ParamView& gamma, const ParamView& beta) {
  if (coefficients) store_coefficients(coefficients, C, c, grad.a, grad.b, grad.c);
  if (gamma.data) store_param(gamma, c, grad.gamma);
  if (beta.data) store_param(beta, c, grad.beta);
}

}  // namespace nasfast::mixed_op
