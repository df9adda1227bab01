"""torch.ops.nasfast.mixed_op against its twin in plain PyTorch."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest
import torch
from torch import Tensor

import nasfast._C as extension
from nasfast.kernels import ops
from nasfast.kernels.primitives import ALL_PRIMITIVES, PRIMITIVES
from nasfast.nn import cells
from nasfast.nn.fused import ParamList, cell_graph
from tests.conftest import Device
from tests.helpers.op_cases import (
    EDGES,
    TOLERANCE,
    TOLERANCES,
    Edge,
    assert_near,
    exact,
    fused_results,
    near,
    plain_results,
)


@pytest.fixture(autouse=True)
def _seed() -> None:
    torch.manual_seed(0)


def call(
    edge: Edge, x: Tensor, weights: Tensor, dtype: torch.dtype = torch.float32, on: str = "cpu", **options: object
) -> Tensor:
    params = [p.to(on, dtype) for p in ParamList(edge.module()._ops).params()]
    weights = weights.to(on, dtype).unsqueeze(0)
    return ops.mixed_op([x.to(on, dtype)], weights, params, edge.graph(), **options)[0]  # type: ignore[arg-type]


# A gradient that is zero but for rounding cannot be compared: BatchNorm undoes the scale of a weight that is alone in
# its channel, and a handful of values per channel have too few digits in 16 bits. The widest type tells there.
HALVES = (torch.bfloat16, torch.float16)
FEW_DIGITS = {
    "one channel": (torch.float32, *HALVES),
    "one pixel": HALVES,
    "batch 1": HALVES,
}
CASES = [
    (device, name, dtype)
    for device in TOLERANCES
    for name in EDGES
    for dtype in TOLERANCES[device]
    if dtype not in FEW_DIGITS.get(name, ())
]


@pytest.mark.parametrize(("device", "name", "dtype"), CASES, ids=str, indirect=["device"])
def test_outputs_and_gradients_equal_the_twin_s(device: Device, name: str, dtype: torch.dtype) -> None:
    edge = EDGES[name]
    module, (x, weights) = edge.module(), edge.inputs()
    if dtype in HALVES:  # same rounded inputs for both
        module, x, weights = module.to(dtype), x.to(dtype), weights.to(dtype)
    fused = fused_results(edge, module, x, weights, dtype, device.torch)
    expected = plain_results(edge, module, x, weights)
    if dtype in HALVES:
        assert_close_on_average(fused, expected, TOLERANCES[device.name][dtype])
    else:
        assert_near(fused, expected, TOLERANCES[device.name][dtype])


def assert_close_on_average(actual: list[Tensor], expected: list[Tensor], tolerance: float) -> None:
    """16-bit types flip single relus and maxima, so distances are taken in the root mean square."""
    for a, e in zip(actual, expected, strict=True):
        assert (a.cpu().double() - e).norm() <= tolerance * max(e.norm().item(), 1e-3 * e.numel() ** 0.5)


@pytest.mark.parametrize("name", ["darts", "darts, stride 2", "every primitive, affine", "odd size, stride 2"])
def test_recompute_gives_the_same_bits(name: str, device: Device) -> None:
    edge = EDGES[name]
    module, (x, weights) = edge.module(), edge.inputs()
    kept = fused_results(edge, module, x, weights, torch.float32, device.torch)
    again = fused_results(edge, module, x, weights, torch.float32, device.torch, recompute=True)
    assert all(torch.equal(a, b) for a, b in zip(kept, again, strict=True))


@pytest.mark.parametrize("stride", [1, 2])
@pytest.mark.parametrize("recompute", [False, True])
@pytest.mark.parametrize("given", [False, True], ids=["batch statistics", "given statistics"])
def test_gradcheck(stride: int, recompute: bool, given: bool) -> None:
    edge = Edge(2, 4, 4, stride, primitives=tuple(ALL_PRIMITIVES), affine=True)
    params = [p.detach().double().requires_grad_() for p in ParamList(edge.module()._ops).params()]
    x, weights = (t.requires_grad_() for t in edge.inputs())
    stats = None
    if given:
        norms = len(ParamList(edge.module()._ops).norms)
        stats = torch.rand(norms, 2, 2, dtype=torch.float64) + 0.5

    def step(x: Tensor, weights: Tensor, *params: Tensor) -> Tensor:
        options = {"stats": stats, "recompute": recompute}
        return ops.mixed_op([x], weights.unsqueeze(0), params, edge.graph(), **options)[0]  # type: ignore[arg-type]

    assert torch.autograd.gradcheck(step, (x, weights, *params), fast_mode=True)


@pytest.mark.parametrize("stride", [1, 2])
def test_gradcheck_of_a_cell(stride: int) -> None:
    primitives = ("max_pool_3x3", "skip_connect", "sep_conv_3x3", "dil_conv_3x3")
    graph = cell_graph(2, stride, primitives, affine=False)
    modules = [cells.MixedOp(2, edge.stride, primitives).double() for edge in graph.edges]
    params = [p.detach().requires_grad_() for p in ParamList(m for op in modules for m in op._ops).params()]
    states = [torch.randn(2, 2, 4, 4, dtype=torch.float64, requires_grad=True) for _ in range(2)]
    weights = torch.rand(5, 4, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(
        lambda a, b, w, *p: ops.mixed_op([a, b], w, p, graph)[0], (*states, weights, *params), fast_mode=True
    )


def test_layouts_of_the_input_give_the_same_bits(device: Device) -> None:
    edge = EDGES["darts"]
    module, (x, weights) = edge.module(), edge.inputs()
    expected = fused_results(edge, module, x, weights, torch.float32, device.torch)
    module, x, weights = module.to(device.torch), x.to(device.torch), weights.to(device.torch)
    wide = torch.randn(2, 20, 9, 8, device=device.torch)
    wide[:, 2:18, 1:] = x
    for view in (x.float().contiguous(memory_format=torch.channels_last), wide[:, 2:18, 1:]):
        params = ParamList(module._ops).params()
        out, _ = ops.mixed_op([view], weights.float().unsqueeze(0), params, edge.graph())
        assert torch.equal(out, expected[0])
        assert out.is_contiguous(memory_format=torch.channels_last)


def test_an_empty_batch_gives_empty_results_and_zero_gradients(device: Device) -> None:
    edge = Edge(4, 6, 6, stride=2, batch=0)
    out, *grads = fused_results(edge, edge.module(), *edge.inputs(), torch.float32, device.torch)
    assert out.shape == (0, 4, 3, 3)
    assert all(not g.any() for g in grads)


def test_alphas_alone_get_the_same_bits_and_no_weight_gradient() -> None:
    edge = EDGES["darts"]
    module, (x, weights) = edge.module(), edge.inputs()
    _, _, everything, *_ = fused_results(edge, module, x, weights, torch.float32)
    params = ParamList(module._ops).params()
    leaf = weights.float().requires_grad_()
    x = x.float().requires_grad_()
    out, _ = ops.mixed_op([x], leaf.unsqueeze(0), params, edge.graph())
    grad = torch.randn(out.shape, generator=torch.Generator().manual_seed(7), dtype=torch.float64).float()
    extension.profile_start()
    (alone,) = torch.autograd.grad(out, [leaf], grad, retain_graph=True)
    without = extension.profile_stop()["conv_backward"][2]
    extension.profile_start()
    torch.autograd.grad(out, [leaf, *params], grad)
    with_weights = extension.profile_stop()["conv_backward"][2]
    assert torch.equal(alone, everything)
    assert all(p.grad is None for p in params)
    assert without < 0.45 * with_weights  # operations counted, not time


def saved_bytes(step, parameters) -> int:  # type: ignore[no-untyped-def]
    """Bytes of the different storages that a forward keeps for backward, parameters apart."""
    known = {p.untyped_storage().data_ptr() for p in parameters}
    seen: dict[int, int] = {}

    def pack(t: Tensor) -> Tensor:
        storage = t.untyped_storage()
        if storage.data_ptr() not in known:
            seen[storage.data_ptr()] = storage.nbytes()
        return t

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda t: t):
        keep = step()
    assert keep is not None
    return sum(seen.values())


@pytest.mark.parametrize(("stride", "recomputed"), [(1, 15), (2, 12)])  # at stride 2 the input alone is 1/12.7
def test_an_edge_saves_a_quarter_of_what_eager_saves(stride: int, recomputed: int) -> None:
    edge = Edge(16, 32, 32, stride, batch=4)
    module = edge.module()
    x, weights = (t.float().requires_grad_() for t in edge.inputs())
    params = [*ParamList(module._ops).params(), weights]

    def fused(recompute: bool) -> int:
        options = {"recompute": recompute}
        return saved_bytes(
            lambda: ops.mixed_op([x], weights.unsqueeze(0), params[:-1], edge.graph(), **options)[0], params
        )

    eager = saved_bytes(lambda: module(x, weights), params)
    assert 4 * fused(False) <= eager
    assert recomputed * fused(True) <= eager


def test_the_same_bits_on_every_run_and_any_thread_count_forward() -> None:
    edge = Edge(16, 8, 8, batch=5)
    module, (x, weights) = edge.module(), edge.inputs()
    threads = torch.get_num_threads()
    results = []
    try:
        for count in (1, 2, 1, 2):
            torch.set_num_threads(count)
            results.append(fused_results(edge, module, x, weights, torch.float32))
    finally:
        torch.set_num_threads(threads)
    for i in (0, 1):
        assert all(torch.equal(a, b) for a, b in zip(results[i], results[i + 2], strict=True))
    # Output and gradients of input and alphas do not depend on the number of threads.
    assert all(torch.equal(a, b) for a, b in zip(results[0][:3], results[1][:3], strict=True))
    assert_near(results[1], [r.double() for r in results[0]], 1e-5)


@pytest.mark.parametrize("isa", ops.build_info()["isa_usable"])
def test_every_instruction_set(isa: str) -> None:
    active = str(ops.build_info()["isa"])
    extension.set_isa(isa)
    try:
        for name in ("darts", "darts, stride 2", "odd channels", "every primitive, affine"):
            edge = EDGES[name]
            module, (x, weights) = edge.module(), edge.inputs()
            fused = fused_results(edge, module, x, weights, torch.float32)
            assert_near(fused, plain_results(edge, module, x, weights), TOLERANCE[torch.float32])
    finally:
        extension.set_isa(active)


def test_the_environment_forces_an_instruction_set() -> None:
    show = "from nasfast.kernels import ops; print(ops.build_info()['isa'])"
    env = dict(os.environ, NASFAST_ISA="baseline")
    done = subprocess.run([sys.executable, "-c", show], env=env, capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["baseline"]
    env["NASFAST_ISA"] = "altivec"
    failed = subprocess.run([sys.executable, "-c", show], env=env, capture_output=True, text=True)
    assert failed.returncode != 0
    assert "instruction set must be one of {baseline" in failed.stderr


def test_a_large_mean_does_not_spoil_the_variance(device: Device) -> None:
    edge = Edge(8, 8, 8, primitives=("max_pool_3x3", "avg_pool_3x3"))
    x = 1000 + torch.randn(4, 8, 8, 8, dtype=torch.float64)
    weights = torch.tensor([0.5, 0.5], dtype=torch.float64)
    expected = edge.module().double()(x, weights)
    actual = call(edge, x, weights, on=device.torch).cpu().double()
    assert (actual - expected).abs().max() < 2e-3  # 1000 has 6e-5 between float32 values


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_nan_and_inf_reach_what_they_reach_in_torch(value: float, device: Device) -> None:
    edge = Edge(8, 6, 6, primitives=PRIMITIVES)
    x, weights = edge.inputs()
    x[1, 3, 2, 2] = value
    module = edge.module()
    ours = fused_results(edge, module, x, weights, exact(device), device.torch)[0].cpu()
    assert not torch.isfinite(ours).all()
    assert torch.equal(torch.isfinite(ours), torch.isfinite(module.double()(x, weights)))


def test_ties_of_the_maximum_and_borders_of_the_average_are_torch_s(device: Device) -> None:
    edge = Edge(4, 5, 5, primitives=("max_pool_3x3", "avg_pool_3x3"))
    x = torch.randint(0, 2, (2, 4, 5, 5)).double()
    x[0, 0] = 1.0
    weights = torch.tensor([0.7, 0.3], dtype=torch.float64)
    module = edge.module()
    fused = fused_results(edge, module, x, weights, exact(device), device.torch)
    assert_near(fused, plain_results(edge, module, x, weights), near(device))


CODE = EDGES["darts"].graph().code
X = torch.zeros(2, 16, 8, 8)
W = torch.zeros(1, 8)
P = ParamList(EDGES["darts"].module()._ops).params()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (([X, X], W, P, None, CODE), r"states must hold 1 tensors for this graph, got 2"),
        (([X[0]], W, P, None, CODE), r"states\[0\] must be \[N, C, H, W\], got 3 dimensions"),
        (([X.int()], W, P, None, CODE), r"states must be float32, float64 or bfloat16, got Int"),
        (([X[:, :0]], W, P, None, CODE), r"states must have channels, height and width above 0"),
        (([X], W[:, :7], P, None, CODE), r"weights must be \[1, 8\], got \[1, 7\]"),
        (([X], W.int(), P, None, CODE), r"weights must be floating point, got Int"),
        (([X], W, P[:-1], None, CODE), r"params must hold 12 tensors for this graph, got 11"),
        (([X], W, [P[0][:8], *P[1:]], None, CODE), r"params\[0\] must be \[16, 1, 3, 3\], got \[8, 1, 3, 3\]"),
        (([X[:, :8]], W, P, None, CODE), r"params\[0\] must be \[8, 1, 3, 3\]"),
        (([X], W, [P[0].int(), *P[1:]], None, CODE), r"params\[0\] must be floating point, got Int"),
        (([X], W, P, torch.zeros(3, 2, 16), CODE), r"stats must be \[8, 2, 16\], got \[3, 2, 16\]"),
        (([X], W, P, None, CODE[:-1]), r"graph ends before candidate"),
        (([X], W, P, None, [*CODE, 0]), r"graph has values behind its last edge"),
        (([X], W, P, None, [*CODE[:-1], 15]), r"graph names unknown primitive 15"),
        (([X], W, P, None, [*CODE[:6], 3, *CODE[7:]]), r"graph stride must be in \[1, 2\], got 3"),
    ],
)
def test_wrong_arguments_are_named(arguments: tuple, message: str) -> None:
    with pytest.raises(RuntimeError, match="mixed_op: " + message):
        torch.ops.nasfast.mixed_op(*arguments, 1e-5, False)


def test_a_factorized_reduction_of_an_odd_size_is_refused() -> None:
    edge = Edge(8, 7, 8, stride=2)
    with pytest.raises(RuntimeError, match=r"states must have an even height and width .* got 7 x 8"):
        call(edge, *edge.inputs())


def test_unknown_primitives_and_uneven_edges_are_refused() -> None:
    with pytest.raises(ops.ConfigError, match="unknown primitive 'conv_9x9'"):
        ops.MixedGraph(1, 1, (ops.EdgeSpec(0, 0, 1, ("conv_9x9",)),))
    uneven = (ops.EdgeSpec(0, 0, 1, ("none",)), ops.EdgeSpec(0, 0, 1, ("none", "skip_connect")))
    with pytest.raises(ops.ConfigError, match="the same number of candidates"):
        ops.MixedGraph(1, 1, uneven)


def test_a_second_derivative_is_refused() -> None:
    edge = EDGES["darts"]
    x, weights = edge.inputs()
    out = call(edge, x.requires_grad_(), weights.requires_grad_())
    with pytest.raises(RuntimeError, match="cannot be differentiated twice"):
        torch.autograd.grad(out.sum(), weights, create_graph=True)
