// Batched child evaluation as the op takes it: the description of the supernet and the plan as int64 tables.
#pragma once

#include "../aten/tensor.h"

#include "primitives.h"

namespace nasfast::child_eval {

// Parses and checks [P][kFields] and [M][Macro::kFields]. Throws c10::Error.
std::vector<Primitive> parse_primitives(const at::Tensor& table);
std::vector<Macro> parse_macros(const at::Tensor& table, const std::vector<Primitive>& primitives);

// A contiguous int64 table on the CPU, or an error that names it. columns -1: any number.
const int64_t* table_data(const at::Tensor& t, const char* name, int64_t dims, int64_t columns = -1);

// Nodes [M][kNodeFields]: kind, halvings, channels, operation (-1: none), number of inputs; the inputs of all nodes,
// one after the other; and the node of each output.
inline constexpr int64_t kNodeFields = 5;
std::tuple<at::Tensor, at::Tensor> node_tables(const Plan& plan);
Plan parse_plan(std::vector<Macro> macros, const at::Tensor& nodes, const at::Tensor& inputs,
                const at::Tensor& outputs);

// Checks that the operations of outputs (-1: none) are classifiers with one number of classes, which is returned.
int64_t check_outputs(const std::vector<Macro>& macros, const std::vector<Primitive>& primitives,
                      const std::vector<int32_t>& operations);

// An op call, parsed and checked.
struct Request {
  std::vector<Primitive> primitives;
  Plan plan;
  std::vector<uint8_t> live;
  std::vector<int32_t> place;  // by node: which output it is, -1: none
  int64_t in_channels = 0, classes = 0;

  std::vector<uint8_t> primitives_used() const;
};
Request parse_request(const at::Tensor& primitives, const at::Tensor& macros, const at::Tensor& nodes,
                      const at::Tensor& inputs, const at::Tensor& outputs, int64_t classes, int64_t memory_bound);

// Images [N, channels, H, W], not empty, of one of the dtypes, which `wanted` names, on `device`.
void check_images(const at::Tensor& x, const char* name, int64_t channels, at::Device device,
                  at::ArrayRef<at::ScalarType> dtypes, const char* wanted);

// Every tensor of every primitive in use, in order: of the expected shape, float32, on `device`. Tensors of a
// primitive: its weights, its bias, then gamma, beta, mean and variance of each norm; `eps` one for each norm of all
// primitives.
enum class TensorRole { kWeight, kBias, kNorm };
struct NamedTensor {
  size_t primitive;
  TensorRole role;
  size_t number;      // of the weight or norm
  size_t part;        // of a norm: gamma, beta, mean, variance
  double eps;         // of a norm
  at::Tensor tensor;  // contiguous
};
std::vector<NamedTensor> name_tensors(const std::vector<Primitive>& primitives, const std::vector<uint8_t>& used,
                                      at::TensorList tensors, at::ArrayRef<double> eps, at::Device device);

// What an evaluation took, as the op returns it: int64, in this order.
struct Usage {
  int64_t peak_bytes = 0, statistics_bytes = 0, computed_again = 0, threads = 0, slice_images = 0, parts = 0;
  at::Tensor tensor() const;
};

[[noreturn]] void fail_too_small(const char* phase, int64_t needed, int64_t bound);

}  // namespace nasfast::child_eval
