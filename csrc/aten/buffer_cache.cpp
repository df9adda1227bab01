#include "buffer_cache.h"

#include <c10/core/CPUAllocator.h>

#include <cstdlib>
#include <map>
#include <mutex>
#include <vector>

#if defined(__linux__)
#include <sys/mman.h>
#endif

namespace nasfast {
namespace {

constexpr size_t kGranule = 64 * 1024;  // sizes are rounded up to this
constexpr size_t kHugePage = 2 * 1024 * 1024;

class BufferCache {
 public:
  void* take(size_t bytes) {
    {
      std::lock_guard<std::mutex> lock(mutex_);
      auto it = free_.find(bytes);
      if (it != free_.end() && !it->second.empty()) {
        void* p = it->second.back();
        it->second.pop_back();
        kept_ -= bytes;
        account(bytes);
        return p;
      }
      account(bytes);
    }
    return fresh(bytes);
  }

  void give(void* p, size_t bytes) {
    std::lock_guard<std::mutex> lock(mutex_);
    used_ -= bytes;
    free_[bytes].push_back(p);
    kept_ += bytes;
    trim();
  }

  int64_t empty() {
    std::lock_guard<std::mutex> lock(mutex_);
    const int64_t bytes = static_cast<int64_t>(kept_);
    while (kept_ > 0) drop_largest();
    return bytes;
  }

 private:
  static void* fresh(size_t bytes) {
    void* p =
        std::aligned_alloc(bytes >= kHugePage ? kHugePage : 64, ceil_to(bytes, bytes >= kHugePage ? kHugePage : 64));
    TORCH_CHECK_WITH(OutOfMemoryError, p, "nasfast: out of memory, could not allocate ", bytes, " bytes");
#if defined(__linux__) && defined(MADV_HUGEPAGE)
    if (bytes >= kHugePage) madvise(p, ceil_to(bytes, kHugePage), MADV_HUGEPAGE);
#endif
    return p;
  }

  static size_t ceil_to(size_t v, size_t unit) { return (v + unit - 1) / unit * unit; }

  void account(size_t bytes) {
    used_ += bytes;
    most_ = std::max(most_, used_);
  }

  // In use and kept together never exceed the most that was in use.
  void trim() {
    while (kept_ > 0 && used_ + kept_ > most_) drop_largest();
  }

  void drop_largest() {
    auto it = std::prev(free_.end());
    if (it->second.empty()) {
      free_.erase(it);
      return;
    }
    std::free(it->second.back());
    it->second.pop_back();
    kept_ -= it->first;
  }

  std::mutex mutex_;
  std::map<size_t, std::vector<void*>> free_;
  size_t used_ = 0, kept_ = 0, most_ = 0;
};

BufferCache& cache() {
  static auto* instance = new BufferCache;  // never destroyed: tensors may outlive static destruction
  return *instance;
}

}  // namespace

at::Tensor cached_empty(at::IntArrayRef sizes, at::ScalarType dtype) {
  const auto options = at::TensorOptions().dtype(dtype).device(at::kCPU);
  int64_t elements = 1;
  for (int64_t s : sizes) elements *= s;
  if (elements == 0) return at::empty(sizes, options);
  const size_t wanted = static_cast<size_t>(elements) * c10::elementSize(dtype);
  const size_t bytes = (wanted + kGranule - 1) / kGranule * kGranule;
  void* p = cache().take(bytes);
  return at::from_blob(p, sizes, [bytes](void* q) { cache().give(q, bytes); }, options);
}

int64_t empty_buffer_cache() { return cache().empty(); }

}  // namespace nasfast
