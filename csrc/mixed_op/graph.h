// The mixed graph: source states, nodes, and the edges between them, each a mixture of the same number of candidates.
//
// One edge is the DARTS mixed op; fourteen edges over four nodes are a DARTS cell. The graph travels through the
// dispatcher as a list of integers (see parse_graph) and is checked once, there.
#pragma once

#include <cstdint>
#include <vector>

#include "mixed_op_kernels.h"

namespace nasfast::mixed_op {

enum class Primitive : int64_t {
  kNone = 0,
  kMaxPool3x3 = 1,
  kAvgPool3x3 = 2,
  kSkipConnect = 3,  // identity; at stride 2 a factorized reduction
  kSepConv3x3 = 4,
  kSepConv5x5 = 5,
  kDilConv3x3 = 6,
  kDilConv5x5 = 7,
  kSepConv7x7 = 8,
  kConv7x1_1x7 = 9,
};
inline constexpr int64_t kPrimitiveCount = 10;

enum class Norm : int64_t {
  kBatch = 0,        // BatchNorm without parameters
  kBatchAffine = 1,  // BatchNorm with weight and bias
  kNone = 2,         // pools only
};

inline constexpr int kFromState = -1;

// front -> pointwise -> BatchNorm, one per convolution of a candidate.
struct Conv {
  int edge, candidate;
  int input;  // index of the convolution it follows, or kFromState
  Front front;
  int kernel, dilation, stride;  // depthwise
  int taps_h, taps_w;            // kTaps: a taps_h x taps_w window; 0 x 0: a factorized reduction
  bool input_norm;               // its input goes through BatchNorm and relu (false: as it is); not for kFromState
  bool norm, affine;             // BatchNorm behind it
  bool output;                   // its normalised y goes into the node (false: into a second convolution)
  int depthwise, product, product2, gamma, beta;  // places in `params`, -1 where absent
  bool rebuilt;  // its y is not saved but computed again in backward: cheap beside the memory it takes
  int bn;        // BatchNorm slot, -1 without
};

struct Pool {
  int edge, candidate;
  bool maximum, norm, affine;
  int gamma, beta, bn;
};

struct Edge {
  int source, node, stride;
  std::vector<int> convs;  // indices into Graph::convs, inputs before outputs
  std::vector<int> pools;
  int skip = -1;  // candidate of an identity
};

struct Graph {
  int inputs = 0, nodes = 0, candidates = 0;
  std::vector<Edge> edges;
  std::vector<Conv> convs;
  std::vector<Pool> pools;
  int params = 0, norms = 0, pad = 0;

  std::vector<int> edges_from(int state) const;
  std::vector<int> edges_into(int node) const;
  int input_stride() const;  // of the edges that leave the inputs
};

// [inputs, nodes, candidates, edges, then per edge: source, node, stride, and per candidate primitive + 16 * norm].
// Sources count the inputs first, then the nodes. Throws c10::Error naming what is wrong.
Graph parse_graph(const std::vector<int64_t>& code);

// The y of all convolutions of every edge, in elements per batch image: what a backward reads.
std::vector<int64_t> saved_elements(const Graph& graph, int64_t channels, int64_t H, int64_t W);

// Geometry of a convolution on an H x W input.
ConvGeometry geometry_of(const Conv& conv, int64_t channels, int64_t H, int64_t W, int pad);

}  // namespace nasfast::mixed_op
