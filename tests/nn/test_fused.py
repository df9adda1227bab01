"""Fused modules against those of nasfast.nn.cells: as modules, with their modes, buffers and copies."""

from __future__ import annotations

import copy
import pickle
from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from nasfast.compat.darts import Network
from nasfast.nn import cells
from nasfast.nn.fused import FusedCell, FusedMixedOp
from nasfast.nn.fused_partial import FusedPartialCell
from tests.kernels.test_mixed_op import saved_bytes

CELLS = {"normal": (False, False), "reduction": (True, False), "after a reduction": (False, True)}


def cell_pair(reduction: bool, reduced: bool, multiplier: int = 3, **options: bool) -> tuple[nn.Module, nn.Module]:
    torch.manual_seed(0)
    shape = (3, multiplier, 12, 20, 8, reduction, reduced)
    plain, fused = cells.Cell(*shape).double(), FusedCell(*shape, **options).double()
    fused.load_state_dict(plain.state_dict())
    return plain, fused


def cell_inputs(reduced: bool) -> list[Tensor]:
    size = 16 if reduced else 8
    shapes = [(2, 12, size, size), (2, 20, 8, 8), (9, 8)]
    return [torch.rand(s, dtype=torch.float64).requires_grad_() for s in shapes]


def step(module: nn.Module, inputs: list[Tensor]) -> list[Tensor]:
    out = module(*inputs)
    grads = torch.autograd.grad(out.sin().sum(), [*inputs, *module.parameters()])
    return [out, *grads, *module.buffers()]


@pytest.mark.parametrize("training", [True, False], ids=["train", "eval"])
@pytest.mark.parametrize("recompute", [False, True])
@pytest.mark.parametrize("kind", CELLS)
def test_cells_equal_the_twin_s(kind: str, recompute: bool, training: bool) -> None:
    plain, fused = cell_pair(*CELLS[kind], recompute=recompute)
    inputs = cell_inputs(CELLS[kind][1])
    for module in (plain, fused):
        module(*inputs)  # running statistics that are not the initial ones
        module.train(training)
    for a, b in zip(step(fused, inputs), step(plain, inputs), strict=True):
        torch.testing.assert_close(a, b, rtol=1e-9, atol=1e-10)


@pytest.mark.parametrize("multiplier", [1, 3, 5])
def test_cells_concatenate_as_many_states_as_asked(multiplier: int) -> None:
    plain, fused = cell_pair(False, False, multiplier)
    inputs = cell_inputs(False)
    torch.testing.assert_close(fused(*inputs), plain(*inputs))


@pytest.mark.parametrize("clone", [copy.deepcopy, lambda m: pickle.loads(pickle.dumps(m))], ids=["deepcopy", "pickle"])
def test_copies_are_their_own(clone) -> None:  # type: ignore[no-untyped-def]
    module = FusedMixedOp(8, 1)
    x, weights = torch.randn(2, 8, 4, 4), torch.full((8,), 0.125)
    twin = clone(module)
    assert torch.equal(twin(x, weights), module(x, weights))
    with torch.no_grad():
        for parameter in twin.parameters():
            parameter.zero_()
    assert not torch.equal(twin(x, weights), module(x, weights))


def test_state_dicts_are_those_of_the_public_names() -> None:
    assert list(FusedMixedOp(8, 2).state_dict()) == list(cells.MixedOp(8, 2).state_dict())


def test_a_single_value_per_channel_is_refused_in_training_only() -> None:
    module = FusedMixedOp(8, 1)
    x = torch.randn(1, 8, 1, 1)
    with pytest.raises(ValueError, match="Expected more than 1 value per channel"):
        module(x, torch.ones(8))
    assert module.eval()(x, torch.ones(8)).shape == (1, 8, 1, 1)


@pytest.mark.parametrize("backend", ["aot_eager", "inductor"])
def test_fullgraph_compile_gives_the_same(backend: str) -> None:
    torch.manual_seed(0)
    module = FusedMixedOp(8, 1)
    twin = copy.deepcopy(module)
    x, weights = torch.randn(2, 8, 6, 6), torch.full((8,), 0.125)
    compiled = torch.compile(module, backend=backend, fullgraph=True)
    results = []
    for run in (compiled, twin):
        leaves = [x.clone().requires_grad_(), weights.clone().requires_grad_()]
        out = run(*leaves)
        results.append([out, *torch.autograd.grad(out.sin().sum(), leaves)])
    for a, b in zip(*results, strict=True):
        torch.testing.assert_close(a, b)
    assert torch.equal(module._ops[4].op[3].running_mean, twin._ops[4].op[3].running_mean)


@pytest.mark.parametrize("kind", CELLS)
def test_whole_cells_compile(kind: str) -> None:
    _, cell = cell_pair(*CELLS[kind])
    twin = copy.deepcopy(cell)
    inputs = cell_inputs(CELLS[kind][1])
    compiled = torch.compile(cell, backend="aot_eager", fullgraph=True)
    grads = [step(module, inputs) for module in (compiled, twin)]
    for a, b in zip(*grads, strict=True):
        torch.testing.assert_close(a, b)


def test_partial_cells_compile() -> None:
    cell = FusedPartialCell(2, 2, 6, 6, 8, True, False).double()
    twin = copy.deepcopy(cell)
    shapes = [(2, 6, 8, 8), (2, 6, 8, 8), (5, 8), (5,)]
    inputs = [torch.rand(s, dtype=torch.float64).requires_grad_() for s in shapes]
    compiled = torch.compile(cell, backend="aot_eager", fullgraph=True)
    for a, b in zip(step(compiled, inputs), step(twin, inputs), strict=True):
        torch.testing.assert_close(a, b)


def test_autocast_is_as_near_to_float32_as_the_twin_s() -> None:
    plain, fused = cell_pair(False, False)
    inputs = [x.detach().float() for x in cell_inputs(False)]
    plain, fused = plain.float(), fused.float()
    exact = plain(*inputs)
    with torch.autocast("cpu", torch.bfloat16):
        theirs, ours = plain(*inputs), fused(*inputs)
    assert ours.dtype == torch.bfloat16
    assert (ours - exact).norm() <= 2 * (theirs - exact).norm()


@pytest.mark.parametrize("momentum", [0.0, 0.3, 1.0])
def test_running_statistics_follow_the_momentum(momentum: float) -> None:
    plain, fused = cells.MixedOp(6, 1).double(), FusedMixedOp(6, 1).double()
    fused.load_state_dict(plain.state_dict())
    x, weights = torch.randn(3, 6, 5, 5, dtype=torch.float64), torch.ones(8, dtype=torch.float64)
    for module in (plain, fused):
        for norm in module.modules():
            if isinstance(norm, nn.BatchNorm2d):
                norm.momentum = momentum
        module(x, weights)
        module(x.square(), weights)
    for (name, a), b in zip(fused.state_dict().items(), plain.state_dict().values(), strict=True):
        torch.testing.assert_close(a, b, msg=lambda m, name=name: f"{name}: {m}")


def test_parameters_are_read_at_every_call() -> None:
    plain, fused = cell_pair(False, False)
    inputs = cell_inputs(False)
    other = {name: torch.randn_like(p) for name, p in plain.named_parameters()}
    expected = torch.func.functional_call(plain, other, tuple(inputs))
    torch.testing.assert_close(torch.func.functional_call(fused, other, tuple(inputs)), expected)
    plain, fused = plain.float().to(torch.bfloat16), fused.to(memory_format=torch.channels_last).to(torch.bfloat16)
    assert fused(*(x.bfloat16() for x in inputs)).dtype == torch.bfloat16


def test_checkpointing_gives_the_same_gradients() -> None:
    module = FusedMixedOp(6, 1).double()
    x, weights = torch.randn(2, 6, 5, 5, dtype=torch.float64, requires_grad=True), torch.ones(8, dtype=torch.float64)
    (expected,) = torch.autograd.grad(module(x, weights).sin().sum(), [x])
    again = checkpoint(module, x, weights, use_reentrant=False)
    assert torch.equal(torch.autograd.grad(again.sin().sum(), [x])[0], expected)


def test_an_empty_batch_leaves_the_running_statistics() -> None:
    module = FusedMixedOp(6, 2)
    before = [b.clone() for name, b in module.named_buffers() if "running" in name]
    assert module(torch.zeros(0, 6, 4, 4), torch.ones(8)).shape == (0, 6, 2, 2)
    after = [b for name, b in module.named_buffers() if "running" in name]
    assert all(torch.equal(a, b) for a, b in zip(before, after, strict=True))


def test_a_network_saves_a_fifth_of_what_eager_saves() -> None:
    images = torch.randn(2, 3, 32, 32)
    counted = {}
    for name, options in {"eager": {"fused": False}, "fused": {}, "recompute": {"recompute": True}}.items():
        network = Network(16, 10, 8, None, **options)  # type: ignore[arg-type]
        counted[name] = saved_bytes(lambda network=network: network(images), network.parameters())
    assert 5 * counted["fused"] <= counted["eager"]
    assert 15 * counted["recompute"] <= counted["eager"]


def test_batches_of_any_size_share_one_compiled_graph() -> None:
    compiled_graphs: list[object] = []

    def backend(graph: torch.fx.GraphModule, _: object) -> Callable[..., object]:
        compiled_graphs.append(graph)
        return graph.forward

    compiled = torch.compile(FusedMixedOp(8, 1), backend=backend, fullgraph=True, dynamic=True)
    for batch in (2, 3, 5, 8):
        compiled(torch.randn(batch, 8, 6, 6), torch.full((8,), 0.125))
    assert len(compiled_graphs) == 1
