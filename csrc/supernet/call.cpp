#include "call.h"

namespace nasfast::supernet {

Tape make_tape(const Program& program, const at::Tensor& index, at::IntArrayRef sizes, Statistics statistics,
               bool keep) {
  const at::Tensor plain = index.contiguous();
  return Tape(program, plain.const_data_ptr<int64_t>(), index.size(0), sizes[0] / index.size(0), sizes[1], sizes[2],
              sizes[3], statistics, keep);
}

ForwardTensors empty_forward(const Program& program, const at::Tensor& images) {
  const auto options = images.options();
  const auto shape = program.output();
  const int64_t scale = int64_t{1} << shape.halvings;
  const at::Tensor out =
      shape.logits ? at::empty({0, shape.channels}, options)
                   : at::empty({0, shape.channels, ceil_div(images.size(2), scale), ceil_div(images.size(3), scale)},
                               options.memory_format(at::MemoryFormat::ChannelsLast));
  return {out, at::empty({0}, options), at::empty({0}, options.dtype(at::kDouble))};
}

Grads empty_backward(const at::Tensor& images, at::TensorList params, const Wanted& wanted) {
  Grads grads;
  if (wanted.images) grads.images = at::zeros_like(images);
  for (size_t i = 0; i < params.size(); ++i)
    grads.params.push_back(wanted.params[i] ? at::zeros_like(params[i]) : at::Tensor());
  return grads;
}

Wanted make_wanted(bool images, const c10::List<bool>& params, at::TensorList given) {
  Wanted wanted{images, {}};
  for (bool want : params) wanted.params.push_back(want);
  TORCH_CHECK(params.size() == given.size(), "supernet_paths: want_params must hold ", given.size(), " flags, got ",
              params.size());
  return wanted;
}

BackwardTensors pack_grads(Grads grads, const at::Tensor& images) {
  for (at::Tensor& g : grads.params)
    if (!g.defined()) g = at::empty({0}, images.options());
  return {grads.images.defined() ? grads.images : at::empty({0}, images.options()), std::move(grads.params)};
}

void check_stats(const Tape& tape, const at::Tensor& stats) {
  TORCH_CHECK(stats.scalar_type() == at::kDouble && stats.is_contiguous() && stats.numel() == tape.stats_elements,
              "supernet_update_running_: stats must be float64 [", tape.stats_elements, "], got ", stats.scalar_type(),
              " ", stats.sizes());
}

}  // namespace nasfast::supernet
