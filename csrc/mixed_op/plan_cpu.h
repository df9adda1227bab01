// What the CPU forward and backward of the mixed graph share: shapes, packed weights, scratch, and how images are
// divided among threads.
#pragma once

#include <ATen/Parallel.h>
#include "../aten/tensor.h"

#include "../aten/buffer_cache.h"
#include "graph.h"

namespace nasfast::mixed_op {

template <class S>
constexpr at::ScalarType scalar_type_of();
template <>
constexpr at::ScalarType scalar_type_of<float>() {
  return at::kFloat;
}
template <>
constexpr at::ScalarType scalar_type_of<double>() {
  return at::kDouble;
}
template <>
constexpr at::ScalarType scalar_type_of<bf16>() {
  return at::kBFloat16;
}

// Runs f(chunk, first image, last image) for equal shares of the images, one a thread. The shares depend on the number
// of threads only, so that sums kept per share are the same on every run.
template <class F>
void for_image_shares(int64_t images, int64_t shares, const F& f) {
  at::parallel_for(0, shares, 1, [&](int64_t begin, int64_t end) {
    for (int64_t s = begin; s < end; ++s) f(s, images * s / shares, images * (s + 1) / shares);
  });
}

inline int64_t image_shares(int64_t images) {
  return std::max<int64_t>(1, std::min<int64_t>(images, at::get_num_threads()));
}

struct Shape {
  int64_t N, C, H, W, h, w;  // input states and nodes
  int64_t B, Cp;
  int64_t in_pixels() const { return H * W; }
  int64_t out_pixels() const { return h * w; }
};

// The shape every op of the family derives from its first state and graph; checks what only shapes can tell.
Shape shape_of(const Graph& graph, at::TensorList states);

// Offsets of a convolution's y in the tensor its edge saves, and that tensor's size, in elements.
struct Layout {
  std::vector<ConvGeometry> geometry;             // per convolution
  std::vector<int64_t> image_elements;            // per convolution
  std::vector<int64_t> offset;                    // per convolution, of image 0
  int64_t rebuilt_elements = 0;                   // of all convolutions whose y is not saved, in a tensor of their own
  std::vector<int64_t> edge_elements;             // per edge
  int64_t tile = 0, dy = 0, padded = 0, raw = 0;  // scratch elements, the largest over the graph

  Layout(const Graph& graph, const Shape& shape);
};

// All weights of a graph, packed for the kernels (see PackedWeights), and where the gradients of each are kept.
template <class A>
struct PackedParams {
  at::Tensor storage;
  std::vector<PackedWeights<A>> convs;
  std::vector<at::Tensor> gamma, beta;  // per BatchNorm slot, [Cp] in A; undefined without

  PackedParams(const Graph& graph, const Layout& layout, int64_t channels, at::TensorList params, bool backward);
};

// Scratch of one share of images.
template <class A>
struct Scratch {
  at::Tensor storage;
  A *tile, *dy, *raw, *relu, *g_raw, *g_relu, *g_average, *g_maximum;

  Scratch(const Layout& layout, bool backward);
};

}  // namespace nasfast::mixed_op
