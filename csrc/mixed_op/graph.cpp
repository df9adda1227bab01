#include "graph.h"

#include <c10/util/Exception.h>

#include <algorithm>

namespace nasfast::mixed_op {
namespace {

class Builder {
 public:
  explicit Builder(Graph& graph) : g_(graph) {}

  void add(int edge, int candidate, Primitive primitive, Norm norm) {
    Edge& e = g_.edges[edge];
    const bool pool = primitive == Primitive::kMaxPool3x3 || primitive == Primitive::kAvgPool3x3;
    TORCH_CHECK(norm != Norm::kNone || pool, "mixed_op: graph has a primitive without BatchNorm that is not a pool");
    affine_ = norm == Norm::kBatchAffine;
    switch (primitive) {
      case Primitive::kNone:
        return;
      case Primitive::kMaxPool3x3:
      case Primitive::kAvgPool3x3:
        return add_pool(edge, candidate, primitive == Primitive::kMaxPool3x3, norm != Norm::kNone);
      case Primitive::kSkipConnect:
        if (e.stride == 1)
          e.skip = candidate;
        else
          add_reduction(edge, candidate);
        return;
      case Primitive::kSepConv3x3:
        return add_separable(edge, candidate, 3);
      case Primitive::kSepConv5x5:
        return add_separable(edge, candidate, 5);
      case Primitive::kSepConv7x7:
        return add_separable(edge, candidate, 7);
      case Primitive::kDilConv3x3:
        g_.convs[add_depthwise(edge, candidate, kFromState, 3, 2, e.stride)].rebuilt = true;
        return;
      case Primitive::kDilConv5x5:
        add_depthwise(edge, candidate, kFromState, 5, 2, e.stride);
        return;
      case Primitive::kConv7x1_1x7:
        return add_factorized_7x7(edge, candidate);
    }
  }

 private:
  Conv base(int edge, int candidate, int input) {
    Conv c{};
    c.edge = edge;
    c.candidate = candidate;
    c.input = input;
    c.stride = 1;
    c.depthwise = c.product = c.product2 = c.gamma = c.beta = c.bn = -1;
    c.output = true;
    if (input != kFromState) g_.convs[input].output = false;
    return c;
  }

  void normalise(Conv& c) {
    c.norm = true;
    c.affine = affine_;
    if (affine_) {
      c.gamma = g_.params++;
      c.beta = g_.params++;
    }
    c.bn = g_.norms++;
  }

  int push(const Conv& c) {
    const int index = static_cast<int>(g_.convs.size());
    g_.convs.push_back(c);
    g_.edges[c.edge].convs.push_back(index);
    return index;
  }

  int add_depthwise(int edge, int candidate, int input, int kernel, int dilation, int stride) {
    Conv c = base(edge, candidate, input);
    c.front = Front::kDepthwise;
    c.kernel = kernel;
    c.dilation = dilation;
    c.stride = stride;
    c.input_norm = input != kFromState;
    c.depthwise = g_.params++;
    c.product = g_.params++;
    normalise(c);
    g_.pad = std::max(g_.pad, dilation * (kernel - 1) / 2);
    return push(c);
  }

  void add_separable(int edge, int candidate, int kernel) {
    const int first = add_depthwise(edge, candidate, kFromState, kernel, 1, g_.edges[edge].stride);
    add_depthwise(edge, candidate, first, kernel, 1, 1);
  }

  void add_reduction(int edge, int candidate) {
    Conv c = base(edge, candidate, kFromState);
    c.front = Front::kTaps;
    c.stride = 2;
    c.product = g_.params++;
    c.product2 = g_.params++;
    normalise(c);
    push(c);
  }

  void add_factorized_7x7(int edge, int candidate) {
    Conv row = base(edge, candidate, kFromState);
    row.front = Front::kTaps;
    row.stride = g_.edges[edge].stride;
    row.taps_h = 1;
    row.taps_w = 7;
    row.product = g_.params++;
    const int first = push(row);
    Conv column = base(edge, candidate, first);
    column.front = Front::kTaps;
    column.stride = g_.edges[edge].stride;
    column.taps_h = 7;
    column.taps_w = 1;
    column.product = g_.params++;
    normalise(column);
    push(column);
    g_.pad = std::max(g_.pad, 3);
  }

  void add_pool(int edge, int candidate, bool maximum, bool norm) {
    Pool p{edge, candidate, maximum, norm, norm && affine_, -1, -1, -1};
    if (p.affine) {
      p.gamma = g_.params++;
      p.beta = g_.params++;
    }
    if (norm) p.bn = g_.norms++;
    g_.edges[edge].pools.push_back(static_cast<int>(g_.pools.size()));
    g_.pools.push_back(p);
  }

  Graph& g_;
  bool affine_ = false;
};

class Reader {
 public:
  explicit Reader(const std::vector<int64_t>& code) : code_(code) {}
  int next(const char* what, int64_t low, int64_t high) {
    TORCH_CHECK(at_ < code_.size(), "mixed_op: graph ends before ", what);
    const int64_t v = code_[at_++];
    TORCH_CHECK(v >= low && v <= high, "mixed_op: graph ", what, " must be in [", low, ", ", high, "], got ", v);
    return static_cast<int>(v);
  }
  bool done() const { return at_ == code_.size(); }

 private:
  const std::vector<int64_t>& code_;
  size_t at_ = 0;
};

}  // namespace

std::vector<int> Graph::edges_from(int state) const {
  std::vector<int> out;
  for (size_t e = 0; e < edges.size(); ++e)
    if (edges[e].source == state) out.push_back(static_cast<int>(e));
  return out;
}

std::vector<int> Graph::edges_into(int node) const {
  std::vector<int> out;
  for (size_t e = 0; e < edges.size(); ++e)
    if (edges[e].node == node) out.push_back(static_cast<int>(e));
  return out;
}

int Graph::input_stride() const {
  for (const Edge& edge : edges)
    if (edge.source < inputs) return edge.stride;
  return 1;
}

Graph parse_graph(const std::vector<int64_t>& code) {
  constexpr int64_t kMany = 4096;
  Graph graph;
  Reader in(code);
  graph.inputs = in.next("inputs", 1, kMany);
  graph.nodes = in.next("nodes", 1, kMany);
  graph.candidates = in.next("candidates", 1, kMany);
  const int edges = in.next("edges", 1, kMany);
  graph.edges.reserve(edges);
  Builder builder(graph);
  for (int e = 0; e < edges; ++e) {
    Edge edge;
    edge.node = -1;
    edge.source = in.next("source", 0, graph.inputs + graph.nodes - 2);
    edge.node = in.next("node", 0, graph.nodes - 1);
    TORCH_CHECK(edge.source < graph.inputs + edge.node, "mixed_op: graph edge ", e, " must lead to a later node, got ",
                edge.source, " -> ", edge.node);
    edge.stride = in.next("stride", 1, 2);
    TORCH_CHECK(edge.stride == 1 || edge.source < graph.inputs, "mixed_op: graph edge ", e,
                " must have stride 1 as it leaves a node");
    graph.edges.push_back(edge);
    for (int k = 0; k < graph.candidates; ++k) {
      const int c = in.next("candidate", 0, 16 * 3 - 1);
      TORCH_CHECK(c % 16 < kPrimitiveCount, "mixed_op: graph names unknown primitive ", c % 16);
      TORCH_CHECK(c % 16 != static_cast<int>(Primitive::kSkipConnect) || graph.edges.back().skip < 0,
                  "mixed_op: graph edge ", e, " must have at most one skip_connect");
      builder.add(e, k, static_cast<Primitive>(c % 16), static_cast<Norm>(c / 16));
    }
  }
  TORCH_CHECK(in.done(), "mixed_op: graph has values behind its last edge");
  for (int n = 0; n < graph.nodes; ++n)
    TORCH_CHECK(!graph.edges_into(n).empty(), "mixed_op: graph node ", n, " must have an edge into it");
  return graph;
}

ConvGeometry geometry_of(const Conv& conv, int64_t channels, int64_t H, int64_t W, int pad) {
  ConvGeometry g{};
  g.front = conv.front;
  g.blocks_in = g.blocks_out = static_cast<int>(blocks_of(channels));
  g.H = static_cast<int>(H);
  g.W = static_cast<int>(W);
  g.pad = pad;
  g.kernel = conv.kernel;
  g.dilation = conv.dilation;
  g.stride_h = g.stride_w = conv.stride;
  if (conv.front == Front::kDepthwise) {
    g.pad_h = g.pad_w = conv.dilation * (conv.kernel - 1) / 2;
  } else if (conv.taps_h == 0) {  // factorized reduction: pixels (2i, 2j) and (2i+1, 2j+1)
    g.taps = 2;
    g.tap_y[1] = g.tap_x[1] = 1;
    g.split = static_cast<int>(channels / 2);
  } else {
    g.taps = conv.taps_h * conv.taps_w;
    g.stride_h = conv.taps_h == 1 ? 1 : conv.stride;
    g.stride_w = conv.taps_w == 1 ? 1 : conv.stride;
    for (int t = 0; t < g.taps; ++t) {
      g.tap_y[t] = conv.taps_h == 1 ? 0 : t - g.taps / 2;
      g.tap_x[t] = conv.taps_w == 1 ? 0 : t - g.taps / 2;
    }
  }
  g.h = static_cast<int>(ceil_div(H, g.stride_h));
  g.w = static_cast<int>(ceil_div(W, g.stride_w));
  return g;
}

std::vector<int64_t> saved_elements(const Graph& graph, int64_t channels, int64_t H, int64_t W) {
  const int64_t stride = graph.input_stride();
  std::vector<int64_t> elements(graph.edges.size(), 0);
  std::vector<ConvGeometry> geometry;
  for (const Conv& conv : graph.convs) {
    const bool first = conv.input == kFromState, from_input = graph.edges[conv.edge].source < graph.inputs;
    const int64_t rows = !first ? geometry[conv.input].h : from_input ? H : ceil_div(H, stride);
    const int64_t columns = !first ? geometry[conv.input].w : from_input ? W : ceil_div(W, stride);
    geometry.push_back(geometry_of(conv, channels, rows, columns, graph.pad));
    elements[conv.edge] += channels * geometry.back().h * geometry.back().w;
  }
  return elements;
}

// A tile of the front's output takes half of a 32 KiB first-level cache.
int conv_tile_rows(const ConvGeometry& g) {
  constexpr int kTileBytes = 16 * 1024;
  const int pixels = kTileBytes / static_cast<int>(sizeof(float) * kLanes) / g.product_blocks();
  return std::clamp(pixels / std::max(g.w, 1), 1, std::max(g.h, 1));
}

int64_t conv_tile_elements(const ConvGeometry& g) {
  const int64_t pixels = static_cast<int64_t>(conv_tile_rows(g)) * g.w;
  return kLanes * (pixels * (2 * g.product_blocks() + g.blocks_out + 1) + 2 * g.blocks_out);
}

}  // namespace nasfast::mixed_op
