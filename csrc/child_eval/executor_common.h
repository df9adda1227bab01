// What evaluation and calibration share: shapes of values, memory, primitives.
#pragma once

#include <atomic>
#include <cstdlib>
#include <map>
#include <new>

#include "executor_cpu.h"

namespace nasfast::child_eval {

struct Extent {
  int h, w;
};

inline Extent extent_of(const Images& images, int halvings) {
  return {halved(images.height, halvings), halved(images.width, halvings)};
}

inline ConvShape shape_of(const Primitive& p, int images, Extent in) {
  const bool halve = p.stride == 2;
  const int kernel = static_cast<int>(p.kernel);
  return {images,
          static_cast<int>(blocks_of(p.c_in)),
          static_cast<int>(blocks_of(p.c_out)),
          in.h,
          in.w,
          halve ? (in.h + 1) / 2 : in.h,
          halve ? (in.w + 1) / 2 : in.w,
          kernel,
          static_cast<int>(p.stride),
          static_cast<int>(p.dilation),
          p.has(kSecondPixel) ? 1 : 0};
}

// Bytes of use, over all threads.
class Meter {
 public:
  void add(int64_t bytes) {
    const int64_t now = used_.fetch_add(bytes) + bytes;
    int64_t peak = peak_.load();
    while (now > peak && !peak_.compare_exchange_weak(peak, now)) {
    }
  }
  int64_t peak() const { return peak_.load(); }

 private:
  std::atomic<int64_t> used_{0}, peak_{0};
};

// Buffers of one thread, kept by size for the next value of the same one, never more than `bound` bytes in all.
class Arena {
 public:
  Arena(int64_t bound, Meter& meter) : bound_(bound), meter_(meter) {}
  Arena(const Arena&) = delete;
  ~Arena() {
    for (auto& [elements, list] : kept_)
      for (float* p : list) release(p, elements);
  }

  float* take(int64_t elements) {
    auto& list = kept_[elements];
    if (!list.empty()) {
      float* p = list.back();
      list.pop_back();
      return p;
    }
    const int64_t bytes = elements * static_cast<int64_t>(sizeof(float));
    for (auto it = kept_.begin(); held_ + bytes > bound_ && it != kept_.end(); ++it)
      while (held_ + bytes > bound_ && !it->second.empty()) {
        release(it->second.back(), it->first);
        it->second.pop_back();
      }
    float* p = static_cast<float*>(std::aligned_alloc(64, static_cast<size_t>((bytes + 63) / 64 * 64)));
    if (!p) throw std::bad_alloc();
    held_ += bytes;
    meter_.add(bytes);
    return p;
  }
  void give(float* p, int64_t elements) { kept_[elements].push_back(p); }

 private:
  void release(float* p, int64_t elements) {
    const int64_t bytes = elements * static_cast<int64_t>(sizeof(float));
    std::free(p);
    held_ -= bytes;
    meter_.add(-bytes);
  }

  const int64_t bound_;
  Meter& meter_;
  int64_t held_ = 0;
  std::map<int64_t, std::vector<float*>> kept_;
};

// Extent of the result of each primitive of an operation, and the last primitive that reads it. Throws
// std::invalid_argument for an odd side of what must be even.
struct MacroPlan {
  std::vector<Extent> in, out;
  std::vector<int> last_reader;
};
MacroPlan macro_plan(const Work& work, const Macro& macro, Extent in);

int64_t scratch_elements(const Work& work, const Images& images, int slice, bool calibration);
// `copies`: slices that exist at a time.
std::vector<NodeBytes> node_bytes(const Work& work, const Images& images, int slice, int64_t copies, bool calibration);

void pack_images(const Images& images, int64_t first, int count, float* out);
void fill_zero(float* out, int64_t elements);
// Channels one after the other, also where they do not fill whole blocks.
void concat(const std::vector<std::pair<const float*, int>>& parts, int channels, int pixels, float* out);

}  // namespace nasfast::child_eval
