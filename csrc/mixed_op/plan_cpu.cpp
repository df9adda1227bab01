#include "plan_cpu.h"

#include "pack_cpu.h"

namespace nasfast::mixed_op {
namespace {

template <class A>
std::vector<at::Tensor> as_plain(at::TensorList params) {
  std::vector<at::Tensor> out;
  out.reserve(params.size());
  for (const at::Tensor& t : params) out.push_back(t.to(scalar_type_of<A>()).contiguous());
  return out;
}

template <class A>
at::Tensor padded_vector(const at::Tensor& t, int64_t Cp) {
  at::Tensor out = at::zeros({Cp}, at::TensorOptions().dtype(scalar_type_of<A>()));
  out.narrow(0, 0, t.numel()).copy_(t);
  return out;
}

}  // namespace

Shape shape_of(const Graph& graph, at::TensorList states) {
  const at::Tensor& x = states[0];
  Shape s{x.size(0), x.size(1), x.size(2), x.size(3), 0, 0, blocks_of(x.size(1)), padded_channels(x.size(1))};
  const int64_t stride = graph.input_stride();
  s.h = ceil_div(s.H, stride);
  s.w = ceil_div(s.W, stride);
  return s;
}

Layout::Layout(const Graph& graph, const Shape& shape)
    : geometry(graph.convs.size()),
      image_elements(graph.convs.size()),
      offset(graph.convs.size()),
      edge_elements(graph.edges.size(), 0) {
  for (size_t i = 0; i < graph.convs.size(); ++i) {
    const Conv& conv = graph.convs[i];
    const bool from_node = graph.edges[conv.edge].source >= graph.inputs;
    int64_t H = from_node ? shape.h : shape.H, W = from_node ? shape.w : shape.W;
    if (conv.input != kFromState) {
      H = geometry[conv.input].h;
      W = geometry[conv.input].w;
    }
    const ConvGeometry g = geometry[i] = geometry_of(conv, shape.C, H, W, graph.pad);
    image_elements[i] = static_cast<int64_t>(g.blocks_out) * g.h * g.w * kLanes;
    int64_t& room = conv.rebuilt ? rebuilt_elements : edge_elements[conv.edge];
    offset[i] = room;
    room += shape.N * image_elements[i];
    tile = std::max(tile, conv_tile_elements(g));
    if (g.front == Front::kDepthwise)
      dy = std::max(dy, static_cast<int64_t>(g.blocks_in) * g.h * g.dy_width() * kLanes);
    padded = std::max(padded, static_cast<int64_t>(g.blocks_in) * g.H * g.padded_width() * kLanes);
  }
  padded = std::max(padded, shape.B * shape.H * (shape.W + 2 * graph.pad) * kLanes);
  raw = shape.B * std::max(shape.in_pixels(), shape.out_pixels()) * kLanes;
}

template <class A>
PackedParams<A>::PackedParams(const Graph& graph, const Layout& layout, int64_t channels, at::TensorList params,
                              bool backward)
    : convs(graph.convs.size()), gamma(graph.norms), beta(graph.norms) {
  const int64_t Cp = padded_channels(channels);
  std::vector<int64_t> at(graph.convs.size());
  int64_t total = 0;
  const int64_t copies = backward ? 2 : 1;
  const auto depthwise_size = [&](const ConvGeometry& g) {
    return g.front == Front::kDepthwise ? Cp * g.kernel * g.kernel : 0;
  };
  for (size_t i = 0; i < graph.convs.size(); ++i) {
    at[i] = total;
    const ConvGeometry& g = layout.geometry[i];
    total += copies * (depthwise_size(g) + g.product_blocks() * kLanes * Cp);
  }
  storage = cached_empty({std::max<int64_t>(total, 1)}, scalar_type_of<A>());
  A* base = storage.template data_ptr<A>();
  const std::vector<at::Tensor> plain = as_plain<A>(params);
  at::parallel_for(0, static_cast<int64_t>(graph.convs.size()), 4, [&](int64_t begin, int64_t end) {
    for (int64_t i = begin; i < end; ++i) {
      const Conv& conv = graph.convs[i];
      const ConvGeometry& g = layout.geometry[i];
      A* p = base + at[i];
      PackedWeights<A>& out = convs[i];
      out = {};
      if (conv.depthwise >= 0) {
        const int64_t n = depthwise_size(g);
        A* flipped = backward ? p + n : nullptr;
        pack_depthwise<A>(plain[conv.depthwise].template data_ptr<A>(), channels, g.kernel * g.kernel, p, flipped);
        out.depthwise = p;
        out.flipped = flipped;
        p += copies * n;
      }
      const int64_t n = g.product_blocks() * kLanes * Cp;
      const at::Tensor& w = plain[conv.product];
      const A* second = conv.product2 >= 0 ? plain[conv.product2].template data_ptr<A>() : nullptr;
      A* transposed = backward ? p + n : nullptr;
      pack_product<A>(
          {w.template data_ptr<A>(), second, channels, channels, g.front == Front::kTaps ? g.taps : 1, w.size(0)}, p,
          transposed);
      out.product = p;
      out.transposed = transposed;
    }
  });
  const auto place = [&](int bn, int g, int b) {
    if (bn < 0 || g < 0) return;
    gamma[bn] = padded_vector<A>(params[g], Cp);
    beta[bn] = padded_vector<A>(params[b], Cp);
  };
  for (const Conv& c : graph.convs) place(c.bn, c.gamma, c.beta);
  for (const Pool& p : graph.pools) place(p.bn, p.gamma, p.beta);
}

template <class A>
Scratch<A>::Scratch(const Layout& layout, bool backward) {
  constexpr int64_t kAlign = 16;
  int64_t total = 0;
  const auto reserve = [&](int64_t n, bool wanted) {
    const int64_t at = total;
    if (wanted) total += ceil_div(n, kAlign) * kAlign;
    return at;
  };
  const int64_t tile_at = reserve(layout.tile, true), dy_at = reserve(layout.dy, backward);
  const int64_t raw_at = reserve(layout.raw, true), relu_at = reserve(layout.padded, true);
  const int64_t g_raw_at = reserve(layout.raw, backward), g_relu_at = reserve(layout.padded, backward);
  const int64_t average_at = reserve(layout.raw, backward), maximum_at = reserve(layout.raw, backward);
  storage = cached_empty({total}, scalar_type_of<A>());
  A* base = storage.template data_ptr<A>();
  tile = base + tile_at;
  dy = base + dy_at;
  raw = base + raw_at;
  relu = base + relu_at;
  g_raw = base + g_raw_at;
  g_relu = base + g_relu_at;
  g_average = base + average_at;
  g_maximum = base + maximum_at;
}

template struct PackedParams<float>;
template struct PackedParams<double>;
template struct Scratch<float>;
template struct Scratch<double>;

}  // namespace nasfast::mixed_op
