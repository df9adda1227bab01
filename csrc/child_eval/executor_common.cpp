#include "executor_common.h"

#include <algorithm>
#include <stdexcept>
#include <string>

namespace nasfast::child_eval {
namespace {

int64_t values(int64_t channels, int slice, Extent e) {
  return value_elements(channels, static_cast<int64_t>(slice) * e.h * e.w);
}

int64_t scratch_of(const Primitive& p, int slice, Extent in, bool calibration) {
  const ConvShape s = shape_of(p, slice, in);
  switch (p.kind) {
    case PrimitiveKind::kConv:
      return conv_scratch(s);
    case PrimitiveKind::kDepthwise:
      return depthwise_scratch(s);
    case PrimitiveKind::kInvertedResidual: {
      if (!calibration) return inverted_residual_scratch(s);
      ConvShape project{slice, static_cast<int>(blocks_of(p.c_hidden)), s.blocks_out, s.h, s.w, s.h, s.w, 1, 1, 1};
      return std::max(depthwise_scratch(s), conv_scratch(project));
    }
    case PrimitiveKind::kHead:
      return padded_channels(p.c_in);
    default:
      return pool_scratch(s);
  }
}

// Most bytes of results within an operation, and of what calibration keeps, beside the operation's own result.
int64_t beside(const Work& work, const Macro& macro, int slice, Extent in, bool calibration) {
  const MacroPlan plan = macro_plan(work, macro, in);
  int64_t used = 0, most = 0;
  for (int64_t k = 0; k < macro.primitives; ++k) {
    const Primitive& p = work.primitives[macro.first_primitive + k];
    if (k + 1 < macro.primitives) used += values(p.c_out, slice, plan.out[k]);
    int64_t own = 0;
    if (calibration && p.kind == PrimitiveKind::kInvertedResidual)
      own = values(p.c_hidden, slice, plan.out[k]) + (p.has(kExpand) ? values(p.c_hidden, slice, plan.in[k]) : 0);
    most = std::max(most, used + own);
    for (int64_t j = 0; j < k; ++j)
      if (plan.last_reader[j] == k)
        used -= values(work.primitives[macro.first_primitive + j].c_out, slice, plan.out[j]);
  }
  return most;
}

}  // namespace

MacroPlan macro_plan(const Work& work, const Macro& macro, Extent in) {
  MacroPlan plan;
  for (int64_t k = 0; k < macro.primitives; ++k) {
    const Primitive& p = work.primitives[macro.first_primitive + k];
    plan.in.push_back(p.input[0] < 0 ? in : plan.out[p.input[0]]);
    const ConvShape s = shape_of(p, 1, plan.in.back());
    if (s.first > 0 && (s.H % 2 || s.W % 2))
      throw std::invalid_argument("child_eval: a factorized reduction must read an even height and width, got " +
                                  std::to_string(s.H) + "x" + std::to_string(s.W));
    plan.out.push_back({s.h, s.w});
    plan.last_reader.push_back(static_cast<int>(k));
    for (int64_t source : p.input)
      if (source >= 0) plan.last_reader[source] = static_cast<int>(k);
  }
  return plan;
}

int64_t scratch_elements(const Work& work, const Images& images, int slice, bool calibration) {
  int64_t most = 0;
  std::vector<uint64_t> seen(work.plan.macros.size(), 0);  // by number of halvings, one bit each
  for (size_t i = 0; i < work.live.size(); ++i) {
    const Node& n = work.plan.nodes[i];
    if (!work.live[i] || n.kind != NodeKind::kOperation) continue;
    const int halvings = work.plan.nodes[work.plan.inputs_of(n)[0]].halvings;
    if (seen[n.macro] >> halvings & 1) continue;
    seen[n.macro] |= uint64_t{1} << halvings;
    const Macro& macro = work.plan.macros[n.macro];
    const MacroPlan plan = macro_plan(work, macro, extent_of(images, halvings));
    for (int64_t k = 0; k < macro.primitives; ++k)
      most = std::max(most, scratch_of(work.primitives[macro.first_primitive + k], slice, plan.in[k], calibration));
  }
  return most;
}

std::vector<NodeBytes> node_bytes(const Work& work, const Images& images, int slice, int64_t copies, bool calibration) {
  const auto& nodes = work.plan.nodes;
  const int64_t unit = copies * static_cast<int64_t>(sizeof(float));
  std::vector<NodeBytes> out(nodes.size(), {0, 0});
  std::map<std::pair<int32_t, int>, NodeBytes> known;  // by operation and halvings
  for (size_t i = 0; i < nodes.size(); ++i) {
    const Node& n = nodes[i];
    if (!work.live[i]) continue;
    if (n.kind != NodeKind::kOperation) {
      out[i].value = unit * values(n.channels, slice, extent_of(images, n.halvings));
      continue;
    }
    const int halvings = nodes[work.plan.inputs_of(n)[0]].halvings;
    const auto [it, fresh] = known.try_emplace({n.macro, halvings});
    if (fresh) {
      const Macro& macro = work.plan.macros[n.macro];
      const Primitive& last = work.primitives[macro.first_primitive + macro.primitives - 1];
      const bool head = last.kind == PrimitiveKind::kHead;
      it->second.value = head ? 0 : unit * values(n.channels, slice, extent_of(images, n.halvings));
      it->second.beside = unit * beside(work, macro, slice, extent_of(images, halvings), calibration);
    }
    out[i] = it->second;
  }
  return out;
}

void pack_images(const Images& x, int64_t first, int count, float* out) {
  const int64_t pixels = x.height * x.width, block = block_stride(count * pixels);
  for (int64_t b = 0; b < blocks_of(x.channels); ++b) {
    float* to = out + b * block;
    const int lanes = static_cast<int>(std::min<int64_t>(kLanes, x.channels - b * kLanes));
    for (int64_t n = 0; n < count; ++n)
      for (int64_t r = 0; r < x.height; ++r)
        for (int64_t c = 0; c < x.width; ++c, to += kLanes) {
          const float* from =
              x.data + (first + n) * x.stride[0] + b * kLanes * x.stride[1] + r * x.stride[2] + c * x.stride[3];
          for (int i = 0; i < kLanes; ++i) to[i] = i < lanes ? from[i * x.stride[1]] : 0.0f;
        }
  }
}

void fill_zero(float* out, int64_t elements) { std::fill(out, out + elements, 0.0f); }

void concat(const std::vector<std::pair<const float*, int>>& parts, int channels, int pixels, float* out) {
  const int64_t block = block_stride(pixels);
  fill_zero(out, blocks_of(channels) * block);
  int64_t to = 0;
  for (const auto& [x, count] : parts) {
    if (to % kLanes == 0 && count % kLanes == 0) {
      for (int64_t b = 0; b < count / kLanes; ++b)
        std::copy(x + b * block, x + b * block + static_cast<int64_t>(pixels) * kLanes,
                  out + (to / kLanes + b) * block);
      to += count;
      continue;
    }
    for (int64_t c = 0; c < count; ++c, ++to) {
      const float* from = x + c / kLanes * block + c % kLanes;
      float* at = out + to / kLanes * block + to % kLanes;
      for (int64_t p = 0; p < static_cast<int64_t>(pixels) * kLanes; p += kLanes) at[p] = from[p];
    }
  }
}

}  // namespace nasfast::child_eval
