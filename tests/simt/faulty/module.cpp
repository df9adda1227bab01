// The Python module _simt_faulty: kernels that the harness must reject, and kernels that measure the harness.
#include <torch/csrc/utils/pybind.h>

#include "aten/device_call.h"
#include "checks.h"
#include "core/grid.h"
#include "faulty.h"
#include "host.h"

namespace faulty {
namespace {

at::Tensor run(const std::string& name, bool right, const at::Tensor& x) {
  for (const Case* c = Case::first; c; c = c->next) {
    if (name != c->name) continue;
    const DeviceCall call(x);
    const at::Tensor y = call.empty({kElements}, at::kFloat), work = call.empty({kElements}, at::kFloat);
    const at::Tensor counter = call.zeros({4}, at::kInt);
    (right ? c->right : c->wrong)(
        {call.read<float>(x), call.write<float>(y), call.write<float>(work), call.write<uint32_t>(counter)});
    return y;
  }
  throw std::runtime_error("no case " + name);
}

std::vector<std::string> cases() {
  std::vector<std::string> names;
  for (const Case* c = Case::first; c; c = c->next) names.emplace_back(c->name);
  return names;
}

at::Tensor product(const at::Tensor& a, const at::Tensor& b) {
  const DeviceCall call(a);
  const at::Tensor d = call.empty({16, 8}, at::kFloat);
  const int depth = static_cast<int>(a.size(1));
  if (a.scalar_type() == at::kHalf)
    launch_product(call.read<half_t>(a), call.read<half_t>(b), call.write<float>(d), depth);
  else
    launch_product(call.read<bf16_t>(a), call.read<bf16_t>(b), call.write<float>(d), depth);
  return d;
}

at::Tensor count(const at::Tensor& x, int blocks, int threads, int reads) {
  const DeviceCall call(x);
  const at::Tensor y = call.empty({int64_t{blocks} * threads}, at::kFloat);
  launch_count(call.read<float>(x), call.write<float>(y), blocks, threads, reads);
  return y;
}

at::Tensor count_vectors(const at::Tensor& x, int blocks, int threads) {
  const DeviceCall call(x);
  const at::Tensor y = call.empty(x.sizes(), at::kFloat);
  launch_count_vectors(call.read<float>(x), call.write<float>(y), blocks, threads);
  return y;
}

std::tuple<at::Tensor, at::Tensor> convert(const at::Tensor& x, bool half) {
  const DeviceCall call(x);
  const at::Tensor y = call.empty(x.sizes(), half ? at::kHalf : at::kBFloat16);
  const at::Tensor back = call.empty(x.sizes(), at::kFloat);
  const int n = checked_int("convert", "elements", x.numel());
  if (half)
    launch_convert(call.read<float>(x), call.write<half_t>(y), call.write<float>(back), n);
  else
    launch_convert(call.read<float>(x), call.write<bf16_t>(y), call.write<float>(back), n);
  return {y, back};
}

at::Tensor warp_operations(const at::Tensor& x) {
  const DeviceCall call(x);
  const at::Tensor y = call.empty({8, 64}, at::kInt);
  launch_warp_operations(call.read<int32_t>(x), call.write<int32_t>(y));
  return y;
}

at::Tensor arrival(int blocks, int threads) {
  const DeviceCall call(at::empty({0}));
  const at::Tensor counter = call.zeros({1}, at::kInt), y = call.empty({blocks, threads}, at::kInt);
  launch_arrival(call.write<uint32_t>(counter), call.write<int32_t>(y), blocks, threads);
  return y;
}

// A result of which `wrong` leaves the second half unwritten.
at::Tensor half_written(const at::Tensor& x) {
  const DeviceCall call(x);
  const at::Tensor y = call.empty({128}, at::kFloat);
  launch_count(call.read<float>(x), call.write<float>(y), 1, 64, 1);
  return y;
}

}  // namespace
}  // namespace faulty

PYBIND11_MODULE(TORCH_EXTENSION_NAME, m) {
  using namespace faulty;
  simt::bind(m);
  m.attr("ELEMENTS") = kElements;
  m.def("cases", &cases);
  m.def("run", &run, pybind11::arg("name"), pybind11::arg("right"), pybind11::arg("x"));
  m.def("product", &product);
  m.def("count", &count);
  m.def("count_vectors", &count_vectors);
  m.def("convert", &convert);
  m.def("warp_operations", &warp_operations);
  m.def("arrival", &arrival);
  m.def("half_written", &half_written);
  m.def("make_grid", [](const std::string& name, int64_t x, int64_t y, int64_t z) {
    const dim3 grid = nasfast::make_grid(name.c_str(), x, y, z);
    return pybind11::make_tuple(grid.x, grid.y, grid.z);
  });
  m.def("grid_for", [](const std::string& name, int64_t items, int64_t per_block) {
    return nasfast::grid_for(name.c_str(), items, per_block).x;
  });
  m.def("check_launch",
        [](const std::string& name, unsigned threads) { nasfast::check_launch(name.c_str(), dim3(1), dim3(threads)); });
  m.def("check_shared",
        [](const std::string& name, size_t needed, size_t most) { nasfast::check_shared(name.c_str(), needed, most); });
  m.def("quotient", &nasfast::quotient);
  m.def("checked_int", [](const std::string& name, const std::string& what, int64_t value) {
    return nasfast::checked_int(name.c_str(), what.c_str(), value);
  });
}
