#include "backward_plan_cuda.h"

#include <algorithm>

#include "kernels_cuda.h"

namespace nasfast::mixed_op {
namespace {

constexpr const char* kBackward = "conv_backward";

int64_t product_elements(const ConvShape& s) { return static_cast<int64_t>(s.O) * s.I * (s.split > 0 ? 1 : s.taps); }
int64_t weight_elements(const ConvShape& s) {
  return product_elements(s) + static_cast<int64_t>(s.I) * s.kernel * s.kernel;
}

// Shares of the tiles: enough for every multiprocessor, but the sums they leave are an eighth of an image at most.
int splits_of(const ConvShape& s, int64_t N) {
  constexpr int64_t kMost = 64, kPart = 8;
  const int64_t tiles = tiles_of(N, s.h, s.w), image = N * s.h * s.w * s.O;
  const int64_t splits = std::clamp<int64_t>(image / (kPart * weight_elements(s)), 1, std::min(kMost, tiles));
  return static_cast<int>(ceil_div(tiles, ceil_div(tiles, splits)));
}

int region_elements(const ConvShape& s, int width) {
  if (s.kernel == 0) return kTilePixels * width;
  const int before = (s.pad + 1) / 2;
  const int reach = s.stride_y == 1 ? kTile + 2 * s.pad : (kTile - 1 + s.pad) / 2 + before + 1;
  return reach * (reach | 1) * width;
}

int input_tile_elements(const ConvShape& s) {
  const int reach = (kTile - 1) * s.stride_y + 1 + 2 * s.pad;
  return s.kernel > 0 ? reach * (reach | 1) * kChunk : 4;
}

// Slices of a work that one launch's arguments hold. Later ones add to what the first wrote.
std::vector<InputWork> pieces_of(const InputWork& work) {
  const auto parts = [](size_t count, size_t most) { return (count + most - 1) / most; };
  const size_t pieces = std::max({size_t{1}, parts(work.convs.size(), kMaxBackwardConvs),
                                  parts(work.pools.size(), kMaxPoolGrads), parts(work.skips.size(), kMaxSkipGrads)});
  if (pieces == 1) return {work};
  std::vector<InputWork> out(pieces);
  const auto slice = [&](const auto& all, size_t most, size_t piece) {
    const size_t begin = std::min(all.size(), piece * most), end = std::min(all.size(), begin + most);
    return std::vector(all.begin() + begin, all.begin() + end);
  };
  for (size_t p = 0; p < pieces; ++p) {
    out[p].input = work.input;
    out[p].input_wanted = work.input_wanted;
    if (p > 0) out[p].input.extra = work.input.out;
    out[p].convs = slice(work.convs, kMaxBackwardConvs, p);
    out[p].pools = slice(work.pools, kMaxPoolGrads, p);
    out[p].skips = slice(work.skips, kMaxSkipGrads, p);
  }
  return out;
}

template <class S>
class BackwardLaunch {
 public:
  BackwardLaunch(const DeviceCall& call, Counters& counters, int64_t N, bool batch_stats, bool weights, double eps)
      : call_(call), counters_(counters), weights_(weights) {
    args_.N = checked_int(kBackward, "batch", N);
    args_.batch_stats = batch_stats;
    args_.eps = static_cast<float>(eps);
  }

  bool holds(const InputWork& work) const {
    return args_.convs + work.convs.size() <= kMaxBackwardConvs && args_.inputs < kMaxInputGrads &&
           pools_ + work.pools.size() <= kMaxPoolGrads && skips_ + work.skips.size() <= kMaxSkipGrads;
  }

  void add(const InputWork& work) {
    if (work.input_wanted) {
      InputGrad& input = args_.input[args_.inputs++] = work.input;
      input.first_conv = args_.convs;
      input.convs = static_cast<int>(work.convs.size());
      input.first_pool = pools_;
      input.pools = static_cast<int>(work.pools.size());
      input.first_skip = skips_;
      input.skips = static_cast<int>(work.skips.size());
    }
    for (const BackwardConv& conv : work.convs) args_.conv[args_.convs++] = conv;
    for (const PoolGrad& pool : work.pools) args_.pool[pools_++] = pool;
    for (const SkipGrad& skip : work.skips) args_.skip[skips_++] = skip;
  }

  void launch() {
    const int width = choose_width();
    size_shared(width);
    int64_t blocks = 0;
    for (int i = 0; i < args_.inputs; ++i) blocks += place_input(args_.input[i], width, blocks);
    args_.input_blocks = checked_int(kBackward, "blocks", blocks);
    for (int i = 0; i < args_.convs; ++i) {
      args_.conv[i].block = checked_int(kBackward, "blocks", blocks);
      if (weights_) blocks += weight_blocks(args_.conv[i], width);
    }
    launch_conv_backward<S>(args_, width, blocks, call_.stream());
  }

 private:
  int64_t input_tiles(const InputGrad& input) const { return tiles_of(args_.N, input.x.H, input.x.W); }

  // Wide blocks read dL/dy less often, narrow ones are more.
  int choose_width() const {
    constexpr int64_t kEnough = 256;
    int64_t wide = 0;
    int channels = 0;
    for (int i = 0; i < args_.inputs; ++i) {
      wide += input_tiles(args_.input[i]) * ceil_div(args_.input[i].x.C, 32);
      channels = std::max(channels, args_.input[i].x.C);
    }
    return channels > 16 && wide >= kEnough ? 32 : 16;
  }

  void size_shared(int width) {
    args_.region_elements = args_.kernel_elements = args_.tile_elements = args_.norm_elements = 4;
    args_.coefficient_elements = 4;
    const auto at_least = [](int& value, int64_t wanted) { value = std::max<int>(value, static_cast<int>(wanted)); };
    for (int i = 0; i < args_.convs; ++i) {
      const ConvShape& s = args_.conv[i].conv.shape;
      at_least(args_.region_elements, region_elements(s, width));
      at_least(args_.kernel_elements, s.kernel * s.kernel * width);
      at_least(args_.tile_elements, input_tile_elements(s));
      at_least(args_.norm_elements, 2 * ceil_div(s.I, kChunk) * kChunk);
      at_least(args_.coefficient_elements, 3 * ceil_div(s.O, kChunk) * kChunk);
    }
    if (pools_ > 0) at_least(args_.region_elements, kPoolElements);
  }

  int64_t place_input(InputGrad& input, int width, int64_t block) {
    const Runs runs = runs_of(input_tiles(input));
    const int64_t chunks = ceil_div(input.x.C, width);
    input.block = checked_int(kBackward, "blocks", block);
    input.runs = runs.count;
    input.run_tiles = runs.tiles;
    checked_int(kBackward, "tiles of 8 x 8 pixels", input_tiles(input));
    if (input.norm.stats) {
      partials_.push_back(call_.empty({runs.count, 2, input.x.C}, at::kFloat));
      input.partial = call_.write<float>(partials_.back());
      input.counters = counters_.take(chunks);
    }
    return chunks * runs.count;
  }

  static int64_t weight_blocks(const BackwardConv& conv, int width) {
    const ConvShape& s = conv.conv.shape;
    return conv.splits * ceil_div(s.I, kChunk) * ceil_div(s.O, width) * s.taps;
  }

  // 12 x 12 pixels of a state, and average, maximum and tap of 10 x 10 pooled ones.
  static constexpr int kPoolElements = (144 + 3 * 100) * kChunk;

  const DeviceCall& call_;
  Counters& counters_;
  const bool weights_;
  BackwardArgs args_{};
  int pools_ = 0, skips_ = 0;
  std::vector<at::Tensor> partials_;
};

}  // namespace

void WeightSums::add_unit(const float* partial, int64_t stride, int splits, int64_t count, const ParamView& out) {
  units_.push_back({partial, stride, splits, checked_int("reduce_weights", "elements", count), 0, out});
}

void WeightSums::add(BackwardConv& conv, int64_t N, const ParamView& depthwise, const ParamView& product,
                     const ParamView& product2) {
  const ConvShape& s = conv.conv.shape;
  conv.splits = splits_of(s, N);
  const int64_t stride = weight_elements(s), whole = product_elements(s);
  partials_.push_back(call_.empty({conv.splits, stride}, at::kFloat));
  conv.weight_partial = call_.write<float>(partials_.back());
  const int64_t first = s.split > 0 ? static_cast<int64_t>(s.split) * s.I : whole;
  add_unit(conv.weight_partial, stride, conv.splits, first, product);
  if (s.split > 0) add_unit(conv.weight_partial + first, stride, conv.splits, whole - first, product2);
  if (s.kernel > 0) add_unit(conv.weight_partial + whole, stride, conv.splits, stride - whole, depthwise);
}

void WeightSums::reduce() {
  constexpr int kThreads = 128;
  ReduceArgs args{};
  int64_t blocks = 0;
  for (size_t i = 0; i < units_.size(); ++i) {
    ReduceUnit& unit = args.unit[args.units++] = units_[i];
    unit.block = checked_int("reduce_weights", "blocks", blocks);
    blocks += ceil_div(unit.count, kThreads);
    if (args.units < kMaxReduceUnits && i + 1 < units_.size()) continue;
    launch_reduce_weights(args, blocks, call_.stream());
    args.units = 0;
    blocks = 0;
  }
}

template <class S>
void run_backward_convs(const DeviceCall& call, Counters& counters, std::vector<InputWork> works, int64_t N,
                        bool batch_stats, bool weights, double eps) {
  const auto fresh = [&] { return std::make_unique<BackwardLaunch<S>>(call, counters, N, batch_stats, weights, eps); };
  auto launch = fresh();
  bool empty = true;
  for (const InputWork& work : works) {
    bool first = true;
    for (const InputWork& piece : pieces_of(work)) {
      if (!empty && (!first || !launch->holds(piece))) {
        launch->launch();
        launch = fresh();
      }
      launch->add(piece);
      first = empty = false;
    }
  }
  if (!empty) launch->launch();
}

template <class S>
void run_products(const DeviceCall& call, Counters& counters, const std::vector<ProductWork>& works, int64_t N,
                  bool batch_stats, double eps) {
  const char* name = "products";
  ProductArgs args{};
  args.N = checked_int(name, "batch", N);
  args.batch_stats = batch_stats;
  args.eps = static_cast<float>(eps);
  std::vector<at::Tensor> partials;
  int64_t blocks = 0;
  int rows = 0;
  bool vector = true;
  const auto flush = [&] {
    launch_products<S>(args, vector, blocks, call.stream());
    args.units = rows = 0;
    blocks = 0;
    vector = true;
  };
  for (const ProductWork& work : works) {
    for (size_t first = 0; first < work.rows.size(); first += kUnitRows) {
      const int count = static_cast<int>(std::min<size_t>(work.rows.size() - first, kUnitRows));
      if (args.units == kMaxProductUnits || rows + count > kMaxProductRows) flush();
      ProductUnit& unit = args.unit[args.units++] = {};
      unit.g = work.g;
      unit.first = rows;
      unit.rows = count;
      unit.stride = work.stride;
      unit.images = work.images;
      unit.block = checked_int(name, "blocks", blocks);
      unit.runs = runs_of_pixels(N * work.g.H * work.g.W);
      partials.push_back(call.empty({unit.runs, 1 + count, work.g.C}, at::kFloat));
      unit.partial = call.write<float>(partials.back());
      unit.counters = counters.take(1);
      vector = vector && work.g.vector;
      for (int r = 0; r < count; ++r) {
        args.row[rows++] = work.rows[first + r];
        vector = vector && work.rows[first + r].x.vector;
      }
      blocks += unit.runs * ceil_div(work.g.C, 64);
    }
  }
  if (args.units > 0) flush();
}

template void run_backward_convs<float>(const DeviceCall&, Counters&, std::vector<InputWork>, int64_t, bool, bool,
                                        double);
template void run_backward_convs<bf16_t>(const DeviceCall&, Counters&, std::vector<InputWork>, int64_t, bool, bool,
                                         double);
template void run_backward_convs<half_t>(const DeviceCall&, Counters&, std::vector<InputWork>, int64_t, bool, bool,
                                         double);
template void run_products<float>(const DeviceCall&, Counters&, const std::vector<ProductWork>&, int64_t, bool, double);
template void run_products<bf16_t>(const DeviceCall&, Counters&, const std::vector<ProductWork>&, int64_t, bool,
                                   double);
template void run_products<half_t>(const DeviceCall&, Counters&, const std::vector<ProductWork>&, int64_t, bool,
                                   double);

}  // namespace nasfast::mixed_op
