// What forward and backward of a call share on CUDA: memory of values, packed weights, normalisations, launches.
#pragma once

#include <map>

#include "call.h"
#include "queue_cuda.h"

namespace nasfast::supernet {

// Device buffers of floats, kept by size for the next value of the same one. The launches of a call run in order, so a
// buffer may be given back as soon as its last reader is in the queue.
class DevicePool {
 public:
  explicit DevicePool(const DeviceCall& call) : call_(call) {}
  float* take(int64_t elements);
  void give(float* p, int64_t elements) { free_[elements].push_back(p); }

 private:
  const DeviceCall& call_;
  std::map<int64_t, std::vector<float*>> free_;
  std::vector<at::Tensor> storage_;
};

struct DeviceUnit {
  float *weight = nullptr, *transposed = nullptr;
};

// Tasks of the launches that a stage can take.
struct LayerLists {
  TaskList<LayerTask> conv[3], lanes, map;
  TaskList<LayerTask>& conv_of(int ld) { return conv[ld > 32 ? 2 : ld > 16 ? 1 : 0]; }
};

class DeviceExecutor {
 protected:
  DeviceExecutor(const DeviceCall& device, const Call& call, bool backward);

  int ld(const Value& v) const { return leading(v.channels); }
  int pixels(const Value& v) const { return static_cast<int>(tape_.images) * v.h * v.w; }
  int64_t elements(const Value& v) const {
    return (v.pooled ? tape_.images : static_cast<int64_t>(pixels(v))) * leading(v.channels);
  }
  // By value: where its part of what is kept begins, and the elements of all.
  std::vector<int64_t> kept_offsets(int64_t& total) const;

  Source read(int value, Act then = Act::kNone) const;
  // Of a unit; for a gradient what is read and what results change places.
  Window window(const Step& s, bool gradient) const;
  LayerTask layer_task(const Step& s, bool gradient) const;
  // Elementwise over a value.
  LayerTask map_task(MapKind kind, const Value& v, float* out) const;
  static int64_t map_blocks(const LayerTask& task);
  static int64_t conv_blocks(const LayerTask& task);

  // Cuts a reduction over a value into runs; the sums lie in memory of the pool.
  ReduceTask reduce_task(const Value& v);
  static int64_t reduce_blocks(const ReduceTask& task);
  static Partial partial_of(const ReduceTask& task);
  int64_t partial_elements(const ReduceTask& task) const;

  NormTask norm_task(int norm, NormKind batch) const;
  bool batch_statistics(const NormUse& use) const { return use.stats_offset >= 0; }
  static int64_t norm_blocks(const NormTask& task) { return ceil_div(task.ld, kNormChannels); }

  void launch_layers(LayerLists& lists, bool gradient);
  ImagesArgs images_args(const at::Tensor& images, bool written) const;
  static int64_t images_blocks(const ImagesArgs& args, bool in);

  const DeviceCall& device_;
  const Call& call_;
  const Program& program_;
  const Tape& tape_;
  const cudaStream_t stream_;
  DevicePool pool_;
  Queue queue_;
  std::vector<DeviceUnit> bank_;  // by unit
  std::vector<float*> data_;      // by value that owns memory
  std::vector<float*> rows_;      // by norm
  double* stats_ = nullptr;

 private:
  void pack_units(bool backward);
  at::Tensor rows_storage_, bank_storage_;
};

ForwardTensors forward_cuda(const DeviceCall& device, const Call& call);
Grads backward_cuda(const DeviceCall& device, const Call& call, const at::Tensor& grad_out, const at::Tensor& kept,
                    const at::Tensor& stats, const Wanted& wanted);

}  // namespace nasfast::supernet
