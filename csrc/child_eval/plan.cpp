#include "plan.h"

namespace nasfast::child_eval {

std::vector<uint8_t> live_nodes(const Plan& plan) {
  std::vector<uint8_t> live(plan.nodes.size(), 0);
  for (int32_t node : plan.outputs) live[node] = 1;
  for (size_t i = live.size(); i-- > 0;) {
    const Node& n = plan.nodes[i];
    for (int32_t k = 0; live[i] && k < n.inputs; ++k) live[plan.inputs_of(n)[k]] = 1;
  }
  return live;
}

}  // namespace nasfast::child_eval
