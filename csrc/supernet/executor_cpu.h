// What forward and backward of a call share on the CPU: memory of values, normalisations, images in and out.
#pragma once

#include <omp.h>

#include <ATen/Parallel.h>
#include "../aten/tensor.h"

#include <map>

#include "../aten/buffer_cache.h"
#include "bank_cpu.h"
#include "call.h"

namespace nasfast::supernet {

// Buffers, kept by size for the next value of the same one.
template <class A>
class Pool {
 public:
  A* take(int64_t elements) {
    auto& list = free_[elements];
    if (!list.empty()) {
      A* p = list.back();
      list.pop_back();
      return p;
    }
    storage_.push_back(cached_empty({std::max<int64_t>(elements, 1)}, scalar_type<A>()));
    return storage_.back().template data_ptr<A>();
  }
  void give(A* p, int64_t elements) { free_[elements].push_back(p); }

 private:
  std::map<int64_t, std::vector<A*>> free_;
  std::vector<at::Tensor> storage_;
};

// Scale and shift of a NormUse, padded, and what they are made of.
template <class A>
struct NormRows {
  A *scale, *shift, *mean;
  std::vector<double> exact_mean, rstd;
};

template <class A>
class Executor {
 protected:
  Executor(const Call& call, bool backward);

  // Scale and shift from mean and (biased) variance. `stats`: [mean(c)..., variance(c)...]; null for a bias.
  void set_norm(int norm, const double* stats);
  void set_running_norm(int norm);
  bool batch_statistics(const NormUse& use) const { return use.stats_offset >= 0; }

  Read<A> read(int value, int slice, Act then = Act::kNone) const;
  A* slice_of(A* base, const Value& v, int slice) const { return base + slice * tape_.slice_stride(v); }
  A* data(int value, int slice) const {
    const Value& v = tape_.values[value];
    return slice_of(data_[v.data], tape_.values[v.data], slice);
  }
  int pixels(const Value& v, int slice) const { return tape_.slice_images(slice) * v.h * v.w; }
  int blocks(const Value& v) const { return static_cast<int>(blocks_of(v.channels)); }

  // f(item, slice, scratch) for `items` x slices, shared out among threads.
  template <class F>
  void each_slice(int64_t items, const F& f) {
    each_task(items * tape_.slices,
              [&](int64_t i, A* scratch) { f(i / tape_.slices, static_cast<int>(i % tape_.slices), scratch); });
  }
  template <class F>
  void each_task(int64_t tasks, const F& f) {
    const int threads = static_cast<int>(std::min<int64_t>(threads_, tasks));
    if (threads <= 1) {
      for (int64_t i = 0; i < tasks; ++i) f(i, scratch_);
      return;
    }
#pragma omp parallel for num_threads(threads) schedule(dynamic, 1)
    for (int64_t i = 0; i < tasks; ++i) f(i, scratch_ + omp_get_thread_num() * scratch_elements_);
  }
  void reserve_scratch(int64_t elements);

  const Call& call_;
  const Program& program_;
  const Tape& tape_;
  const Kernels<A>& k_;
  const int threads_;
  Bank<A> bank_;
  std::vector<A*> data_;  // by value that owns memory
  std::vector<NormRows<A>> norms_;
  Pool<A> pool_;

 private:
  at::Tensor norm_storage_, scratch_storage_;
  int64_t scratch_elements_ = 0;
  A* scratch_ = nullptr;
};

// Strided images [N][C][H][W] -> one slice in blocks.
template <class A>
void pack_slice(const at::Tensor& images, int64_t first, int count, A* out);
// One slice as it is read -> [N, C, H, W] with any strides.
template <class A>
void unpack_slice(const Read<A>& x, const at::Tensor& images, int64_t first, int count);

// Every second pixel of every second row, from `offset` on, as they are read; and its gradient.
template <class A>
void pick_slice(const ConvShape& s, int offset, const Read<A>& x, A* out);
template <class A>
void pick_grad_slice(const ConvShape& s, int offset, const Read<A>& x, const A* dy, bool add, A* gx);

template <class A>
struct ForwardResult {
  at::Tensor out, kept, stats;
};
template <class A>
ForwardResult<A> forward_cpu(const Call& call);

template <class A>
Grads backward_cpu(const Call& call, const at::Tensor& grad_out, const at::Tensor& kept, const at::Tensor& stats,
                   const Wanted& wanted);

}  // namespace nasfast::supernet
