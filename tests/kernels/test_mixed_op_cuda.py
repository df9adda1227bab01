"""What the CUDA kernels of the mixed op promise beside results: launches, bytes, order, types, sizes."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from types import ModuleType
from typing import Any

import pytest
import torch

from nasfast.kernels import ops
from nasfast.kernels.primitives import PRIMITIVES
from nasfast.nn.cells import MixedOp
from nasfast.nn.fused import ParamList, cell_graph
from nasfast.supernets.cell_network import SearchNetwork
from tests.conftest import Device
from tests.helpers.op_cases import EDGES, Edge, fused_results, leaves, run

TRAFFIC = 45  # activation tensors that an edge may move, forward and backward; eager: 257
EDGE_LAUNCHES = 12  # eager: 116
NETWORK_LAUNCHES = 1100  # eager: 13,607
TORCH_S_OWN = {"memset"}


@pytest.fixture(autouse=True)
def _seed() -> None:
    torch.manual_seed(0)


def moved(launches: Sequence[dict[str, Any]]) -> int:
    return sum(launch["unique_read"] + launch["unique_written"] for launch in launches)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=str)
def test_an_edge_stays_in_its_budget_of_bytes_and_launches(simt: ModuleType, dtype: torch.dtype) -> None:
    edge = Edge(16, 32, 32, batch=4)
    x, weights = edge.inputs()
    fused_results(edge, edge.module(), x, weights, dtype)
    launches = simt.launches()
    tensor = x.numel() * dtype.itemsize
    assert moved(launches) <= TRAFFIC * tensor
    assert len(launches) <= EDGE_LAUNCHES
    assert sum(launch["name"] not in TORCH_S_OWN for launch in launches) <= 8


def test_alphas_alone_move_half_of_it(simt: ModuleType) -> None:
    edge = Edge(16, 32, 32, batch=4)
    x, weights = edge.inputs()
    x, mixture, *params = leaves(x, weights, *ParamList(edge.module()._ops).params(), dtype=torch.float32)
    run(lambda: ops.mixed_op([x], mixture.unsqueeze(0), params, edge.graph())[0], [mixture])
    names = Counter(launch["name"] for launch in simt.launches())
    assert names["reduce_weights"] == 0  # no weight gradient was computed
    assert moved(simt.launches()) <= 31 * x.numel() * x.element_size()


def test_a_network_stays_in_its_budget_of_launches(simt: ModuleType) -> None:
    """Forward and backward with all gradients. Only the ops' own launches, and memsets, are counted: torch's stem,
    classifier and sums of gradients come on top, as many as without nasfast."""
    network = SearchNetwork(4, 10, 8)
    logits = network(torch.randn(2, 3, 8, 8))
    logits.sum().backward()
    launches = simt.launches()
    assert 8 * 20 < len(launches) <= NETWORK_LAUNCHES
    assert sum(launch["name"] == "running_stats" for launch in launches) == 8 * 3


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=str)
def test_the_order_of_blocks_and_threads_changes_no_bit(simt: ModuleType, dtype: torch.dtype) -> None:
    edge = Edge(20, 9, 12, batch=3)
    module, (x, weights) = edge.module(), edge.inputs()
    results = []
    for seed in range(3):
        simt.seed(seed)
        results.append(fused_results(edge, module, x, weights, dtype))
    for other in results[1:]:
        assert all(torch.equal(a, b) for a, b in zip(results[0], other, strict=True))


@pytest.mark.parametrize("stride", [1, 2])
@pytest.mark.parametrize("device", ["simt", "cuda"], indirect=True)
def test_a_cell_gives_what_the_cpu_gives(device: Device, stride: int, simt_module: ModuleType) -> None:
    graph = cell_graph(3, stride, PRIMITIVES, affine=True)
    modules = [MixedOp(20, edge.stride, edge.primitives, affine=True) for edge in graph.edges]
    states = [torch.randn(2, 20, 10, 12) for _ in range(2)]
    weights = torch.rand(len(graph.edges), len(PRIMITIVES))
    params = [p for m in modules for p in ParamList(m._ops).params()]

    def results(on: str) -> list[torch.Tensor]:
        own = leaves(*states, weights, *params, dtype=torch.float32, on=on)
        return run(lambda: ops.mixed_op(own[:2], own[2], own[3:], graph)[0], own)

    theirs = results(device.torch)
    simt_module.disable()
    for a, b in zip(theirs, results("cpu"), strict=True):
        torch.testing.assert_close(a.cpu(), b, rtol=0, atol=1e-4 * max(b.abs().max().item(), 1e-3))


CALLS = {
    "mixed_op": lambda x: ops.mixed_op(
        [x], x.new_ones(1, 1), [], ops.MixedGraph(1, 1, (ops.EdgeSpec(0, 0, 1, ("skip_connect",)),))
    ),
    "relu_conv_bn": lambda x: ops.relu_conv_bn(x, [x.new_zeros(4, 4, 1, 1)]),
}


@pytest.mark.parametrize("device", ["simt", "cuda"], indirect=True)
@pytest.mark.parametrize("op", CALLS)
def test_float64_is_refused_clearly(op: str, device: Device) -> None:
    x = torch.zeros(1, 4, 4, 4, dtype=torch.float64, device=device.torch)
    message = f"{op}: states must be float32, bfloat16 or float16 on CUDA, got Double; .*CPU"
    with pytest.raises(RuntimeError, match=message):
        CALLS[op](x)


@pytest.mark.parametrize("channels", [24, 40, 72])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=str)
def test_wide_states_take_several_blocks_of_channels(simt: ModuleType, channels: int, dtype: torch.dtype) -> None:
    edge = Edge(channels, 9, 9, primitives=("sep_conv_3x3", "dil_conv_5x5", "max_pool_3x3", "skip_connect"))
    module, (x, weights) = edge.module(), edge.inputs()
    fused = fused_results(edge, module, x, weights, dtype)
    simt.disable()
    plain = fused_results(edge, module, x, weights, torch.float32)
    for a, b in zip(fused, plain, strict=True):
        assert (a.float() - b).norm() <= (1e-4 if dtype == torch.float32 else 0.15) * b.norm()


@pytest.mark.parametrize("seed", range(2))
def test_unaligned_states_are_read_one_element_at_a_time(simt: ModuleType, seed: int) -> None:
    edge = EDGES["darts"]
    module, (x, weights) = edge.module(), edge.inputs()
    expected = fused_results(edge, module, x, weights, torch.float32)[0]
    room = torch.zeros(x.numel() + 1)
    shifted = room[1:].view(2, 8, 8, 16).permute(0, 3, 1, 2)  # not a multiple of 16 bytes
    shifted.copy_(x)
    out, _ = ops.mixed_op([shifted], weights.float().unsqueeze(0), ParamList(module._ops).params(), edge.graph())
    torch.testing.assert_close(out, expected, rtol=0, atol=1e-5)
