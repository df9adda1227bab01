// The host side of kernel calls in the harness: csrc/aten/device_call.h for CPU tensors, and the ops that run on it.
#include "host.h"

#include <cstdlib>
#include <exception>
#include <memory>
#include <sstream>
#include <vector>

#include "aten/device_call.h"
#include "counts.h"
#include "registry.h"

namespace simt {
namespace {

constexpr size_t kRedZone = 64;  // between allocations, so that a step too far meets none of them

using Implement = void (*)(torch::Library&);
std::vector<Implement>& implementations() {
  static auto* list = new std::vector<Implement>;
  return *list;
}

std::vector<std::unique_ptr<torch::Library>>& enabled_libraries() {
  static auto* list = new std::vector<std::unique_ptr<torch::Library>>;
  return *list;
}

std::vector<std::string>& incomplete() {
  static auto* list = new std::vector<std::string>;
  return *list;
}

std::string describe(const char* what, at::IntArrayRef sizes, at::ScalarType dtype) {
  std::ostringstream text;
  text << what << " " << dtype << " " << sizes;
  return text.str();
}

at::Tensor tracked_empty(at::IntArrayRef sizes, at::ScalarType dtype) {
  const auto options = at::TensorOptions().dtype(dtype);
  int64_t bytes = static_cast<int64_t>(c10::elementSize(dtype));
  for (int64_t size : sizes) bytes *= size;
  if (bytes == 0) return at::empty(sizes, options);
#if defined(__SANITIZE_ADDRESS__)
  const size_t before = 0, all = static_cast<size_t>(bytes);
#else
  const size_t before = kRedZone, all = static_cast<size_t>(bytes) + 2 * kRedZone;
#endif
  void* memory = nullptr;
  if (posix_memalign(&memory, 64, all) != 0) throw std::bad_alloc();
  void* data = static_cast<unsigned char*>(memory) + before;
  add_allocation(data, static_cast<size_t>(bytes), false, describe("the op's own", sizes, dtype));
  return at::from_blob(
      data, sizes,
      [memory](void* p) {
        remove_allocation(p);
        std::free(memory);
      },
      options);
}

}  // namespace

Implementations::Implementations(Implement implement) { implementations().push_back(implement); }

void enable() {
  if (!enabled_libraries().empty()) return;
  for (Implement implement : implementations()) {
    enabled_libraries().push_back(
        std::make_unique<torch::Library>(torch::Library::IMPL, "nasfast", c10::DispatchKey::CPU, __FILE__, __LINE__));
    implement(*enabled_libraries().back());
  }
}

std::vector<std::string>& incomplete_results() { return incomplete(); }

void disable() { enabled_libraries().clear(); }

int64_t unwritten(const at::Tensor& t) {
  Allocation* allocation = allocation_at(t.storage().data());
  return allocation ? static_cast<int64_t>(unwritten_bytes(allocation)) : 0;
}

}  // namespace simt

namespace nasfast {

// Memory of tensors that come from outside is known for the length of a call: the host may do with it what it likes
// before and after.
struct DeviceCall::Scope {
  std::vector<void*> borrowed, own;
  int exceptions = std::uncaught_exceptions();

  void* borrow(const at::Tensor& t, bool writable) {
    void* base = const_cast<void*>(t.storage().data());
    if (!base || t.storage().nbytes() == 0) return const_cast<void*>(t.const_data_ptr());
    simt::Allocation* allocation = simt::allocation_at(base);
    if (!allocation) {
      allocation = simt::add_allocation(base, t.storage().nbytes(), true,
                                        simt::describe("the caller's", t.sizes(), t.scalar_type()));
      allocation->read_only = true;
      allocation->borrowed = true;
    }
    if (allocation->borrowed) {
      ++allocation->holders;
      borrowed.push_back(base);
    }
    if (writable) allocation->read_only = false;
    return const_cast<void*>(t.const_data_ptr());
  }

  // What outlives the call is a result, which kernels must have written whole.
  void note_incomplete_results() const {
    for (void* base : own) {
      simt::Allocation* allocation = simt::allocation_at(base);
      const size_t bytes = allocation ? simt::unwritten_bytes(allocation) : 0;
      if (bytes > 0) simt::incomplete().push_back(allocation->label + ": " + std::to_string(bytes) + " bytes");
    }
  }

  ~Scope() {
    if (std::uncaught_exceptions() == exceptions) note_incomplete_results();
    for (void* base : borrowed)
      if (--simt::allocation_at(base)->holders == 0) simt::remove_allocation(base);
  }
};

DeviceCall::DeviceCall(const at::Tensor& like) : device_(like.device()), scope_(std::make_unique<Scope>()) {}
DeviceCall::~DeviceCall() = default;

cudaStream_t DeviceCall::stream() const { return nullptr; }

at::Tensor DeviceCall::empty(at::IntArrayRef sizes, at::ScalarType dtype) const {
  at::Tensor t = simt::tracked_empty(sizes, dtype);
  if (t.numel() > 0) scope_->own.push_back(t.mutable_data_ptr());
  return t;
}

at::Tensor DeviceCall::zeros(at::IntArrayRef sizes, at::ScalarType dtype) const {
  at::Tensor t = empty(sizes, dtype);
  if (t.numel() == 0) return t;
  std::memset(t.mutable_data_ptr(), 0, t.nbytes());
  simt::mark_written(simt::allocation_at(t.const_data_ptr()));
  simt::Launch record;
  record.name = "memset";
  record.bytes_written = record.unique_written = t.nbytes();
  simt::launches().push_back(record);
  return t;
}

at::Tensor DeviceCall::upload(const void* data, int64_t bytes) const {
  at::Tensor t = empty({bytes}, at::kByte);
  if (bytes == 0) return t;
  std::memcpy(t.mutable_data_ptr(), data, static_cast<size_t>(bytes));
  simt::mark_written(simt::allocation_at(t.const_data_ptr()));
  simt::Launch record;
  record.name = "upload";
  record.bytes_written = record.unique_written = static_cast<uint64_t>(bytes);
  simt::launches().push_back(record);
  return t;
}

void* DeviceCall::pointer(const at::Tensor& t, bool writable) const { return scope_->borrow(t, writable); }

}  // namespace nasfast
