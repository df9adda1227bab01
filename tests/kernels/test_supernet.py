"""torch.ops.nasfast.supernet_paths and supernet_update_running_: units against plain PyTorch, contracts, fakes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from types import ModuleType

import pytest
import torch
from torch import Tensor

import nasfast._C as extension
from nasfast.kernels import ops
from nasfast.kernels.reference_paths import run_paths
from tests.conftest import Device

CONV, DEPTHWISE, _, AVERAGE, MAXIMUM, NORM, HEAD, SUM, PICK, JOIN = range(10)
NONE, RELU, RELU6 = range(3)


CPU = Device("cpu", "cpu")
SIMT = Device("simt", "cpu")


@dataclass
class Builder:
    """Writes a graph of one place after another, with parameters larger than its units need by `spare`."""

    spare: int = 0
    eps: float = 1e-5
    units: list[list[int]] = field(default_factory=list)
    operations: list[list[int]] = field(default_factory=list)
    params: list[Tensor] = field(default_factory=list)
    norms: int = 0

    def param(self, *sizes: int, centre: float = 0.0) -> int:
        self.params.append(centre + 0.5 * torch.randn(*sizes, dtype=torch.float64))
        return len(self.params) - 1

    def unit(
        self,
        kind: int,
        c_in: int,
        c_out: int,
        kernel: int = 1,
        stride: int = 1,
        dilation: int = 1,
        before: int = NONE,
        after: int = NONE,
        bias: bool = False,
        norm: bool = False,
        inputs: tuple[int, int] = (-1, -1),
    ) -> list[int]:
        wide, side = self.spare, kernel + 2 * (self.spare > 0)
        weight = b = gamma = beta = number = -1
        if kind == CONV:
            weight = self.param(c_out + wide, c_in + wide, side, side)
        if kind == DEPTHWISE:
            weight = self.param(c_out + wide, 1, side, side)
        if kind == HEAD:
            weight = self.param(c_out + wide, c_in + wide)
        if bias:
            b = self.param(c_out + wide)
        if norm:
            gamma, beta = self.param(c_out + wide, centre=1.0), self.param(c_out + wide)
            number, self.norms = self.norms, self.norms + 1
        numbers = [weight, b, gamma, beta, number]
        return [kind, kernel, stride, dilation, before, after, c_in, c_out, *numbers, *inputs]

    def operation(self, *units: list[int], kind: int = 0, c_out: int = 0, stride: int = 1) -> int:
        self.operations.append([kind, len(self.units), len(units), c_out or units[-1][7], stride])
        self.units += units
        return len(self.operations) - 1

    def graph(self, entries: Sequence[tuple[int, list[int], list[int]]]) -> ops.PathGraph:
        code = [len(self.units), len(self.operations), len(entries)]
        code += [number for row in (*self.units, *self.operations) for number in row]
        for kind, inputs, operations in entries:
            code += [kind, len(inputs), len(operations), *inputs, *operations]
        return ops.PathGraph(code, [self.eps] * self.norms)


UNITS = {
    "conv 1x1": {"kind": CONV},
    "conv 1x1, stride 2": {"kind": CONV, "stride": 2, "before": RELU},
    "conv 3x3, norm": {"kind": CONV, "kernel": 3, "before": RELU, "norm": True},
    "conv 3x3, stride 2": {"kind": CONV, "kernel": 3, "stride": 2, "norm": True, "after": RELU6},
    "conv 5x5, bias": {"kind": CONV, "kernel": 5, "bias": True, "after": RELU},
    "conv 7x7, stride 2": {"kind": CONV, "kernel": 7, "stride": 2, "before": RELU6},
    "conv 3x3, dilated": {"kind": CONV, "kernel": 3, "dilation": 2, "norm": True},
    "conv 3x3, dilated, stride 2": {"kind": CONV, "kernel": 3, "dilation": 2, "stride": 2},
    "depthwise 3x3": {"kind": DEPTHWISE, "kernel": 3, "before": RELU, "norm": True, "after": RELU6},
    "depthwise 5x5, stride 2": {"kind": DEPTHWISE, "kernel": 5, "stride": 2, "norm": True, "after": RELU},
    "depthwise 7x7, bias": {"kind": DEPTHWISE, "kernel": 7, "bias": True},
    "depthwise 3x3, dilated": {"kind": DEPTHWISE, "kernel": 3, "dilation": 2},
    "depthwise 5x5, dilated, stride 2": {"kind": DEPTHWISE, "kernel": 5, "dilation": 2, "stride": 2},
    "average": {"kind": AVERAGE, "kernel": 3},
    "average, stride 2": {"kind": AVERAGE, "kernel": 3, "stride": 2},
    "average 2x2": {"kind": AVERAGE, "kernel": 2, "stride": 2},
    "maximum": {"kind": MAXIMUM, "kernel": 3},
    "maximum, stride 2": {"kind": MAXIMUM, "kernel": 3, "stride": 2},
    "maximum 2x2": {"kind": MAXIMUM, "kernel": 2, "stride": 2},
    "norm": {"kind": NORM, "norm": True, "after": RELU},
    "norm after relu": {"kind": NORM, "norm": True, "before": RELU},
    "activation": {"kind": NORM, "before": RELU6},
    "head": {"kind": HEAD, "bias": True},
}
SIZES = [(3, 5, 7, 4), (9, 16, 6, 6), (8, 8, 1, 1), (17, 3, 5, 13)]


def one_unit(name: str, c_in: int, c_out: int, spare: int = 0) -> tuple[ops.PathGraph, list[Tensor]]:
    """The unit behind a normalised convolution, which it reads before normalisation."""
    settings = dict(UNITS[name])
    keeps = settings["kind"] not in (CONV, HEAD)
    b = Builder(spare)
    first = b.operation(b.unit(CONV, 3, c_in, norm=True, after=RELU))
    unit = b.unit(c_in=c_in, c_out=c_in if keeps else c_out, **settings)  # type: ignore[arg-type]
    return b.graph([(0, [], []), (1, [0], [first]), (1, [1], [b.operation(unit)])]), b.params


def results(
    graph: ops.PathGraph,
    params: list[Tensor],
    images: Tensor,
    index: Tensor,
    dtype: torch.dtype = torch.float64,
    plain: bool = False,
    device: Device = CPU,
    running: Sequence[Tensor] = (),
    per_operation: bool = False,
) -> list[Tensor]:
    """Output, and the gradients of images and parameters; of the CUDA kernels in float32."""
    dtype = dtype if device.name == "cpu" else torch.float32
    images, *params = (t.detach().to(device.torch, dtype).requires_grad_() for t in (images, *params))
    options = {"running": [r.to(device.torch, dtype) for r in running]} if running else {}
    if plain:
        groups = images.chunk(len(index))
        out = torch.cat([run_paths(graph, params, x, row, **options) for x, row in zip(groups, index.tolist())])  # noqa: B905
    else:
        out, _ = ops.supernet_paths(images, index, params, graph, per_operation=per_operation, **options)
    weights = torch.randn(out.shape, generator=torch.Generator().manual_seed(5), dtype=torch.float64)
    grads = torch.autograd.grad(out, [images, *params], weights.to(out), allow_unused=True)
    zeros = [torch.zeros_like(p) if g is None else g for p, g in zip([images, *params], grads, strict=True)]
    return [t.detach().cpu() for t in (out, *zeros)]


def tolerance(device: Device) -> float:
    return 1e-9 if device.name == "cpu" else 2e-3


def assert_near(found: list[Tensor], expected: list[Tensor], tolerance: float) -> None:
    for i, (a, e) in enumerate(zip(found, expected, strict=True)):
        scale = max(float(e.detach().abs().max()) if e.numel() else 0.0, 1e-2)
        torch.testing.assert_close(
            a.double(), e.double(), rtol=0, atol=tolerance * scale, msg=lambda m, i=i: f"result {i}: {m}"
        )


@pytest.fixture(autouse=True)
def _seed() -> None:
    torch.manual_seed(0)


@pytest.mark.parametrize("isa", ops.build_info()["isa_usable"])
@pytest.mark.parametrize("sizes", SIZES, ids=str)
@pytest.mark.parametrize("name", UNITS)
def test_every_unit_against_its_twin(name: str, sizes: tuple[int, int, int, int], isa: str) -> None:
    c_in, c_out, height, width = sizes
    graph, params = one_unit(name, c_in, c_out)
    images, index = torch.randn(6, 3, height, width, dtype=torch.float64), torch.zeros(1, 0, dtype=torch.int64)
    expected = results(graph, params, images, index, plain=True)
    active = str(ops.build_info()["isa"])
    extension.set_isa(isa)
    try:
        assert_near(results(graph, params, images, index), expected, 1e-9)
        assert_near(results(graph, params, images, index, torch.float32), expected, 2e-3)
    finally:
        extension.set_isa(active)


@pytest.mark.parametrize("device", ["simt", "cuda"], indirect=True)
@pytest.mark.parametrize("sizes", [*SIZES, (36, 68, 4, 4)], ids=str)
@pytest.mark.parametrize("name", UNITS)
def test_every_unit_of_cuda_against_its_twin(name: str, sizes: tuple[int, int, int, int], device: Device) -> None:
    c_in, c_out, height, width = sizes
    graph, params = one_unit(name, c_in, c_out)
    images, index = torch.randn(6, 3, height, width, dtype=torch.float64), torch.zeros(1, 0, dtype=torch.int64)
    expected = results(graph, params, images, index, plain=True)
    assert_near(results(graph, params, images, index, device=device), expected, tolerance(device))


@pytest.mark.parametrize("name", UNITS)
def test_bounds_into_larger_parameters(name: str, device: Device) -> None:
    graph, params = one_unit(name, 10, 12, spare=3)
    images, index = torch.randn(4, 3, 6, 5, dtype=torch.float64), torch.zeros(2, 0, dtype=torch.int64)
    expected = results(graph, params, images, index, plain=True)
    assert_near(results(graph, params, images, index, device=device), expected, tolerance(device))


@pytest.mark.parametrize("name", UNITS)
def test_running_statistics_normalise(name: str, device: Device) -> None:
    graph, params = one_unit(name, 5, 6)
    images, index = torch.randn(4, 3, 6, 5, dtype=torch.float64), torch.zeros(1, 0, dtype=torch.int64)
    running = [torch.rand(6, dtype=torch.float64) + 0.5 for _ in range(2 * len(graph.eps))]
    expected = results(graph, params, images, index, plain=True, running=running)
    found = results(graph, params, images, index, running=running, device=device)
    assert_near(found, expected, tolerance(device))


@pytest.mark.parametrize("before", [NONE, RELU, RELU6])
def test_factorized_reduction(before: int, device: Device) -> None:
    b = Builder()
    first = b.operation(b.unit(CONV, 3, 9, norm=True, after=RELU6 if before == NONE else NONE))
    halves = [
        unit
        for pixel in (0, 1)
        for unit in (
            b.unit(PICK, 9, 9, kernel=pixel + 1, stride=2, before=before),
            b.unit(CONV, 9, 5 - pixel, inputs=(2 * pixel, -1)),
        )
    ]
    last = [b.unit(JOIN, 5, 9, inputs=(1, 3)), b.unit(NORM, 9, 9, norm=True, inputs=(4, -1))]
    graph = b.graph([(0, [], []), (1, [0], [first]), (1, [1], [b.operation(*halves, *last)])])
    images, index = torch.randn(6, 3, 6, 4, dtype=torch.float64), torch.zeros(2, 0, dtype=torch.int64)
    expected = results(graph, b.params, images, index, plain=True)
    assert_near(results(graph, b.params, images, index, device=device), expected, tolerance(device))
    with pytest.raises(RuntimeError, match="even height and width at a factorized reduction, got 5 x 4"):
        results(graph, b.params, images[:, :, :5], index, device=device)


def places() -> tuple[ops.PathGraph, list[Tensor]]:
    """Two places of six operations each, sums and a concatenation, and a head."""
    b = Builder()

    def choices(c: int) -> list[int]:
        return [
            b.operation(kind=2, c_out=c),
            b.operation(kind=1, c_out=c),
            b.operation(b.unit(CONV, c, c, 3, before=RELU, norm=True)),
            b.operation(b.unit(DEPTHWISE, c, c, 5), b.unit(CONV, c, c, norm=True, after=RELU, inputs=(0, -1))),
            b.operation(b.unit(AVERAGE, c, c, 3)),
            b.operation(b.unit(CONV, c, c, bias=True), b.unit(SUM, c, c, inputs=(-1, 0))),
        ]

    stem, head = b.operation(b.unit(CONV, 3, 5, norm=True)), b.unit(HEAD, 10, 4, bias=True)
    entries = [
        (0, [], []),
        (1, [0], [stem]),
        (1, [1], choices(5)),
        (1, [1], choices(5)),
        (2, [2, 3], []),
        (3, [4, 2], []),
        (1, [5], [b.operation(head)]),
    ]
    return b.graph(entries), b.params


ALL_CHOICES = torch.tensor([[i, 5 - i] for i in range(6)])


def test_groups_take_paths_of_their_own(device: Device) -> None:
    graph, params = places()
    images = torch.randn(18, 3, 5, 6, dtype=torch.float64)
    expected = results(graph, params, images, ALL_CHOICES, plain=True)
    assert_near(results(graph, params, images, ALL_CHOICES, device=device), expected, tolerance(device))


@pytest.mark.parametrize("device", ["simt", "cuda"], indirect=True)
def test_statistics_of_an_operation_on_cuda(device: Device, request: pytest.FixtureRequest) -> None:
    """Against the CPU kernels in float64, which gradcheck confirms."""
    graph, params = places()
    images = torch.randn(12, 3, 3, 4, dtype=torch.float64)
    index = torch.cat([ALL_CHOICES, ALL_CHOICES.flip(0)])
    found = results(graph, params, images, index, device=device, per_operation=True)
    if device.name == "simt":
        request.getfixturevalue("simt").disable()
    expected = results(graph, params, images, index, per_operation=True)
    assert_near(found, expected, tolerance(device))


def test_a_value_that_is_read_twice_gets_both_gradients(device: Device) -> None:
    b = Builder()
    stem = b.operation(b.unit(CONV, 3, 5, norm=True, after=RELU))
    doubled = b.operation(b.unit(CONV, 5, 5, norm=True), b.unit(SUM, 5, 5, inputs=(0, 0)))
    joined = b.operation(b.unit(CONV, 5, 5), b.unit(JOIN, 5, 10, inputs=(0, 0)), b.unit(NORM, 10, 10, inputs=(1, -1)))
    graph = b.graph([(0, [], []), (1, [0], [stem]), (1, [1], [doubled]), (1, [2], [joined])])
    images, index = torch.randn(4, 3, 5, 3, dtype=torch.float64), torch.zeros(2, 0, dtype=torch.int64)
    expected = results(graph, b.params, images, index, plain=True)
    assert_near(results(graph, b.params, images, index, device=device), expected, tolerance(device))


def test_parameters_on_no_path_have_no_gradient(device: Device) -> None:
    graph, params = places()
    dtype = torch.float64 if device.name == "cpu" else torch.float32
    params = [p.to(device.torch, dtype).requires_grad_() for p in params]
    images = torch.randn(4, 3, 5, 6, dtype=dtype, device=device.torch)
    ops.supernet_paths(images, torch.tensor([[0, 2]]), params, graph)[0].sum().backward()
    expected = [p.grad is not None for p in params]
    for p in params:
        p.grad = None
    run_paths(graph, params, images, [0, 2]).sum().backward()
    assert expected == [p.grad is not None for p in params]
    assert 0 < sum(expected) < len(expected)


@pytest.mark.parametrize("per_operation", [False, True])
def test_gradcheck(per_operation: bool) -> None:
    graph, params = places()
    # Away from relu's corner, which finite differences of 1e-6 must not cross.
    images = torch.randn(12, 3, 3, 2, dtype=torch.float64, requires_grad=True)
    for p in params:
        p.requires_grad_()

    def forward(images: Tensor, *params: Tensor) -> Tensor:
        return ops.supernet_paths(images, ALL_CHOICES, params, graph, per_operation=per_operation)[0]

    assert torch.autograd.gradcheck(forward, (images, *params), fast_mode=True)


def test_running_statistics_move_group_after_group(device: Device) -> None:
    b = Builder()
    layer = b.operation(b.unit(CONV, 3, 4, norm=True))
    graph = b.graph([(0, [], []), (1, [0], [layer])])
    dtype = torch.float64 if device.name == "cpu" else torch.float32
    images, index = torch.randn(6, 3, 4, 4, dtype=torch.float64), torch.zeros(2, 0, dtype=torch.int64)
    for momentum in (0.1, None):
        norm = torch.nn.BatchNorm2d(4, momentum=momentum).double()
        for group in images.chunk(2):
            norm(torch.nn.functional.conv2d(group, b.params[0]))
        mean, var = torch.zeros(6, dtype=dtype, device=device.torch), torch.ones(6, device=device.torch)
        seen = torch.tensor(0, device=device.torch)
        params = [p.to(device.torch, dtype) for p in b.params]
        _, stats = ops.supernet_paths(images.to(device.torch, dtype), index, params, graph)
        ops.supernet_update_running_(
            stats, index, [mean], [var], [seen], graph, sizes=images.shape, momentum=[-1.0 if momentum is None else 0.1]
        )
        mean, var, rounding = mean.cpu(), var.cpu(), 1e-9 if device.name == "cpu" else 1e-5
        torch.testing.assert_close(mean[:4].double(), norm.running_mean, rtol=rounding, atol=rounding)
        torch.testing.assert_close(var[:4].double(), norm.running_var, rtol=1e-6, atol=1e-6)
        assert (seen.item(), mean[4:].tolist(), var[4:].tolist()) == (2, [0, 0], [1, 1])


def test_empty_batches(device: Device) -> None:
    graph, params = places()
    images = torch.zeros(0, 3, 5, 6, dtype=torch.float64)
    out, *grads = results(graph, params, images, ALL_CHOICES, device=device)
    assert out.shape == (0, 4)
    assert all(float(g.abs().sum()) == 0 for g in grads)
    graph, params = one_unit("conv 3x3, stride 2", 5, 6)
    assert results(graph, params, images, ALL_CHOICES[:1, :0], device=device)[0].shape == (0, 6, 3, 3)


def test_nan_and_infinity_pass(device: Device) -> None:
    graph, params = one_unit("conv 3x3, norm", 5, 6)
    running = [torch.ones(6, dtype=torch.float64)] * 4
    for value in (float("nan"), float("inf")):
        images = torch.randn(2, 3, 6, 6, dtype=torch.float64)
        images[1, 0, 2, 2] = value
        index = torch.zeros(1, 0, dtype=torch.int64)
        out = results(graph, params, images, index, running=running, device=device)[0]
        assert torch.isfinite(out[0]).all()
        assert not torch.isfinite(out[1]).all()


def test_it_is_not_differentiated_twice() -> None:
    graph, params = one_unit("conv 1x1", 5, 6)
    images = torch.randn(2, 3, 4, 4, dtype=torch.float64, requires_grad=True)
    out, _ = ops.supernet_paths(images, torch.zeros(1, 0, dtype=torch.int64), params, graph)
    with pytest.raises(RuntimeError, match="cannot be differentiated twice"):
        torch.autograd.grad(out.sum(), images, create_graph=True)


def test_autocast_computes_in_float32() -> None:
    graph, params = places()
    params, images = [p.float() for p in params], torch.randn(6, 3, 5, 6)
    expected = ops.supernet_paths(images, ALL_CHOICES, params, graph, per_operation=True)[0]
    with torch.autocast("cpu", torch.bfloat16):
        out = ops.supernet_paths(images, ALL_CHOICES, params, graph, per_operation=True)[0]
        ops.supernet_paths(images.bfloat16(), ALL_CHOICES, params, graph, per_operation=True)
    assert torch.equal(out, expected)


# launches


def launches(simt: ModuleType, groups: int) -> list[str]:
    graph, params = places()
    images = torch.randn(2 * groups, 3, 5, 6, dtype=torch.float64)
    index = ALL_CHOICES.repeat(groups // len(ALL_CHOICES), 1)
    simt.reset()
    results(graph, params, images, index, device=SIMT)
    return [launch["name"] for launch in simt.launches()]


def test_launches_do_not_grow_with_the_groups(simt: ModuleType) -> None:
    few, many = launches(simt, 6), launches(simt, 24)
    assert few == many
    assert few.count("upload") == 2  # one of the forward, one of the backward
    assert {"supernet_conv", "supernet_conv_grad", "supernet_conv_weights", "supernet_params"} <= set(few)


def test_bytes_of_a_convolution(simt: ModuleType) -> None:
    """It reads its input and its weights once and writes its output once; its gradients likewise."""
    b = Builder()
    graph = b.graph([(0, [], []), (1, [0], [b.operation(b.unit(CONV, 8, 16, 3))])])
    images, index = torch.randn(4, 8, 8, 8, dtype=torch.float64), torch.zeros(2, 0, dtype=torch.int64)
    simt.reset()
    results(graph, b.params, images, index, device=SIMT)
    found = {launch["name"]: launch for launch in simt.launches()}
    x, y, w, task = 4 * 64 * 8 * 4, 4 * 64 * 16 * 4, 9 * 8 * 16 * 4, 2 * 152
    forward, gradient, weights = (found[f"supernet_conv{part}"] for part in ("", "_grad", "_weights"))
    assert forward["unique_read"] == x + w + task
    assert forward["unique_written"] == y
    assert gradient["unique_read"] == y + w + task
    assert gradient["unique_written"] == x
    assert x + y < weights["unique_read"] < x + y + 256  # and its task and members
    assert weights["unique_written"] == w


@pytest.mark.parametrize("device", ["simt", "cuda"], indirect=True)
def test_the_same_bits_on_every_run(device: Device, request: pytest.FixtureRequest) -> None:
    """Whatever the order of blocks and threads."""
    graph, params = places()
    images = torch.randn(12, 3, 5, 6, dtype=torch.float64)
    first = results(graph, params, images, ALL_CHOICES, device=device)
    if device.name == "simt":
        request.getfixturevalue("simt").seed(7)
    again = results(graph, params, images, ALL_CHOICES, device=device)
    assert all(torch.equal(a, b) for a, b in zip(first, again, strict=True))


@pytest.mark.parametrize("device", ["simt", "cuda"], indirect=True)
@pytest.mark.parametrize("dtype", [torch.float64, torch.bfloat16, torch.float16])
def test_cuda_takes_float32_alone(dtype: torch.dtype, device: Device) -> None:
    graph, params = one_unit("conv 1x1", 5, 6)
    params = [p.to(device.torch, dtype) for p in params]
    with pytest.raises(RuntimeError, match="supernet_paths: images must be a dense float32 tensor on CUDA"):
        ops.supernet_paths(
            torch.zeros(2, 3, 4, 4, dtype=dtype, device=device.torch),
            torch.zeros(1, 0, dtype=torch.int64),
            params,
            graph,
        )


# contract


def arguments(**changes: object) -> dict[str, object]:
    graph, params = places()
    good: dict[str, object] = {"images": torch.zeros(6, 3, 4, 4, dtype=torch.float64), "index": ALL_CHOICES}
    return good | {"params": params, "graph": graph, "per_operation": True} | changes


@pytest.mark.parametrize(
    ("changes", "error", "message"),
    [
        ({"index": torch.tensor([[0, 6]])}, IndexError, r"index\[0\]\[1\] must be 0 to 5, got 6"),
        ({"index": torch.tensor([[0, 0], [-1, 0]])}, IndexError, r"index\[1\]\[0\] must be 0 to 5, got -1"),
        ({"index": torch.zeros(1, 3, dtype=torch.int64)}, RuntimeError, r"index must be int64 \[K, 2\]"),
        ({"index": torch.zeros(1, 2)}, RuntimeError, r"index must be int64 \[K, 2\]"),
        ({"index": ALL_CHOICES[:4]}, RuntimeError, "must divide the images, got 4 groups and 6 images"),
        ({"index": ALL_CHOICES[:0]}, RuntimeError, "must divide the images, got 0 groups"),
        ({"images": torch.zeros(6, 3, 4)}, RuntimeError, r"images must be \[N, C, H, W\]"),
        ({"images": torch.zeros(6, 3, 0, 4)}, RuntimeError, "above 0"),
        ({"images": torch.zeros(6, 3, 4, 4, dtype=torch.float16)}, RuntimeError, "float32 or float64"),
        ({"images": torch.zeros(6, 3, 4, 4)}, RuntimeError, "as the images, got Double"),
        ({"images": torch.zeros(6, 2, 4, 4, dtype=torch.float64)}, RuntimeError, "reads 3 channels, got 2"),
        ({"params": []}, RuntimeError, "params must hold 23 tensors"),
        ({"running": [torch.zeros(5)]}, RuntimeError, "mean and variance of 5 normalisations, got 1"),
    ],
)
def test_wrong_arguments_are_named(changes: dict[str, object], error: type[Exception], message: str) -> None:
    with pytest.raises(error, match="supernet_paths: .*" + message):
        ops.supernet_paths(**arguments(**changes))  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("at", "value", "message"),
    [
        (3, 2, "not be an inverted residual"),
        (3, 11, "kind of a unit must be 0 to 9, got 11"),
        (4, 2, "kernel 1, 3, 5 or 7"),
        (5, 3, "stride must be 1 to 2, got 3"),
        (11, -1, "have a weight where it is a convolution"),
    ],
)
def test_wrong_graphs_are_named(at: int, value: int, message: str) -> None:
    graph, params = places()
    code = list(graph.code)
    code[at] = value
    with pytest.raises(RuntimeError, match="supernet_paths: graph: .*" + message):
        ops.supernet_paths(torch.zeros(6, 3, 4, 4).double(), ALL_CHOICES, params, ops.PathGraph(code, graph.eps))
    for short in (graph.code[:-1], [*graph.code, 0]):
        with pytest.raises(RuntimeError, match=r"ends too early|too many"):
            ops.supernet_paths(torch.zeros(6, 3, 4, 4).double(), ALL_CHOICES, params, ops.PathGraph(short, graph.eps))


def test_parameters_that_are_too_small_are_named() -> None:
    graph, params = one_unit("conv 3x3, norm", 5, 6)
    images, index = torch.zeros(2, 3, 4, 4).double(), torch.zeros(1, 0, dtype=torch.int64)
    for at, wrong in ((3, torch.zeros(6, 5, 1, 1)), (3, torch.zeros(5, 5, 3, 3)), (3, torch.zeros(6, 5, 4, 4))):
        with pytest.raises(RuntimeError, match=r"params\[3\] must be at least \[6, 5, k, k\], the kernel k being 3"):
            ops.supernet_paths(images, index, [*params[:at], wrong.double(), *params[at + 1 :]], graph)
    with pytest.raises(RuntimeError, match=r"params\[4\] must be at least \[6\], got \[5\]"):
        ops.supernet_paths(images, index, [*params[:4], torch.zeros(5).double(), *params[5:]], graph)


# registration


def opcheck_arguments() -> tuple:
    graph, params = places()
    images = torch.randn(12, 3, 4, 4, requires_grad=True)
    params = [p.float().requires_grad_() for p in params]
    return images, ALL_CHOICES, params, [], graph.code, graph.eps, False


def test_opcheck() -> None:
    torch.library.opcheck(torch.ops.nasfast.supernet_paths.default, opcheck_arguments())


@pytest.mark.parametrize("wanted", [True, False], ids=["every gradient", "none"])
@torch.no_grad()
def test_opcheck_inner_ops(wanted: bool) -> None:
    arguments = opcheck_arguments()
    torch.library.opcheck(torch.ops.nasfast._supernet_paths_forward.default, (*arguments, True))
    out, kept, stats = torch.ops.nasfast._supernet_paths_forward(*arguments, True)
    torch.library.opcheck(
        torch.ops.nasfast._supernet_paths_backward.default,
        (
            *(torch.randn_like(out), *arguments[:4], kept, stats, *arguments[4:]),
            *(wanted, [wanted] * len(arguments[2])),
        ),
    )


@torch.no_grad()
def test_opcheck_update() -> None:
    images, index, params, _, code, eps, _ = opcheck_arguments()
    _, stats = torch.ops.nasfast.supernet_paths(images, index, params, [], code, eps, False)
    buffers = [[torch.ones(5) for _ in eps], [torch.ones(5) for _ in eps], [torch.tensor(0) for _ in eps]]
    torch.library.opcheck(
        torch.ops.nasfast.supernet_update_running_.default,
        (stats, index, *buffers, list(images.shape), code, False, [0.1] * len(eps)),
    )
    with pytest.raises(RuntimeError, match="stats must be float64"):
        torch.ops.nasfast.supernet_update_running_(
            stats[1:], index, *buffers, list(images.shape), code, False, [0.1] * len(eps)
        )
    with pytest.raises(RuntimeError, match="must hold 5 each"):
        torch.ops.nasfast.supernet_update_running_(stats, index, *buffers, list(images.shape), code, False, [0.1])
