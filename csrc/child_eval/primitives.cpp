#include "primitives.h"

namespace nasfast::child_eval {

std::vector<int64_t> Primitive::norms() const {
  if (kind == PrimitiveKind::kInvertedResidual)
    return has(kExpand) ? std::vector<int64_t>{c_hidden, c_hidden, c_out} : std::vector<int64_t>{c_hidden, c_out};
  return has(kHasNorm) ? std::vector<int64_t>{c_out} : std::vector<int64_t>{};
}

ExpectedTensors expected_tensors(const Primitive& p) {
  ExpectedTensors e;
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

bool is_depthwise_weight(const Primitive& p, size_t number) {
  if (p.kind == PrimitiveKind::kDepthwise) return true;
  return p.kind == PrimitiveKind::kInvertedResidual && number == (p.has(kExpand) ? 1 : 0);
}

}  // namespace nasfast::child_eval
