"""Every public op once on a GPU: `python -m bench.gpu_smoke`.

Each in every dtype that it takes there and with several channels, compared with plain PyTorch in float64 on the CPU,
and run twice, which must give the same bits. A line for each; goes through all of them, and fails if one did. An op of
16 bits gets inputs and weights that are exact in 16 bits, so what is left is the rounding of its own arithmetic.
"""

from __future__ import annotations

import argparse
import copy
import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np
import torch
from torch import Tensor, nn

from bench import arguments
from bench.child_eval import Loop
from nasfast.kernels import ops
from nasfast.kernels.primitives import ALL_PRIMITIVES, PRIMITIVES, num_edges
from nasfast.nn import cells, primitives
from nasfast.nn.fused import FusedCell, FusedMixedOp
from nasfast.spaces.nasbench201 import NASBench201
from nasfast.supernets.batched_eval import evaluate_children
from nasfast.supernets.paths import forward_paths
from nasfast.supernets.shared import SharedNetwork

CHANNELS = (16, 32, 64, 20)
BATCH, PIXELS = 3, 10  # more than one tile of 8 x 8 pixels, the others not full
CLASSES = 10
DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}
ON_CPU = ("float32", "bfloat16")
ALLOWED = {"float32": 1e-4, "bfloat16": 0.15, "float16": 0.03}
"""Norm of the difference over the norm of what is expected. One wrong value in a thousand is off by 0.03 and more."""
DEEP = {"float32": 1e-3, "bfloat16": 0.3, "float16": 0.06}  # of gradients through many layers of such ops
FLOOR = 1e-3  # root mean square under which a gradient is zero but for rounding

Results = Sequence[Tensor]


@dataclass(frozen=True)
class Case:
    """An op on the device, and the same in plain PyTorch; both give outputs and gradients in the same order."""

    op: str
    what: str
    dtype: str
    channels: int
    found: Callable[[], Results]
    expected: Callable[[], Results]
    is_deep: bool = False

    @property
    def allowed(self) -> float:
        return (DEEP if self.is_deep else ALLOWED)[self.dtype]

    def title(self) -> str:
        return f"{self.op}: {self.what}, {self.dtype}, C={self.channels}"


@dataclass(frozen=True)
class Verdict:
    """Largest error of a case, whether both runs had the same bits, or what it died of."""

    case: Case
    error: float = float("inf")
    same: bool = False
    died: str = ""

    @property
    def good(self) -> bool:
        return not self.died and self.same and self.error <= self.case.allowed

    def line(self) -> str:
        said = f"error {self.error:.1e} of {self.case.allowed:g}, {'same' if self.same else 'OTHER'} bits"
        return f"{'ok  ' if self.good else 'FAIL'} {self.case.title()}: {self.died or said}"


def judge(case: Case) -> Verdict:
    try:
        first, second = [[t.detach().cpu() for t in case.found()] for _ in range(2)]
        expected = [t.detach().cpu() for t in case.expected()]
        same = all(torch.equal(a, b) for a, b in zip(first, second, strict=True))
        return Verdict(case, max(_error(a, e) for a, e in zip(first, expected, strict=True)), same)
    except Exception as error:  # whatever it is, the other ops are to be seen too
        return Verdict(case, died=f"{type(error).__name__}: {(str(error).strip() or 'no message').splitlines()[0]}")


def _error(got: Tensor, expected: Tensor) -> float:
    if got.shape != expected.shape:
        return float("inf")
    floor = FLOOR * max(1, expected.numel()) ** 0.5
    error = float((got.double() - expected.double()).norm() / max(float(expected.double().norm()), floor))
    return error if error == error else float("inf")


def cases(device: str, channels: Sequence[int], dtypes: Sequence[str]) -> Iterator[Case]:
    for c in channels:
        for dtype in dtypes:
            for what, build in MIXED.items():
                yield _module_case("mixed_op", what, device, c, dtype, *build(c))
            for what, build in POINTWISE.items():
                yield _module_case("relu_conv_bn", what, device, c, dtype, *build(c))
            yield _shuffle(device, c, dtype)
            if dtype == "float32" or device == "cuda":
                yield from _children(device, c, dtype)
        yield _running_stats(device, c)
        for per_operation in (False, True):
            yield _paths(device, c, per_operation)


def _edge(
    c: int, stride: int, primitives: tuple[str, ...] = PRIMITIVES, recompute: bool = False
) -> tuple[nn.Module, nn.Module, list[Tensor]]:
    torch.manual_seed(0)
    plain = _shaken(cells.MixedOp(c, stride, primitives, True))
    fused = _same(plain, FusedMixedOp(c, stride, primitives, True, recompute=recompute))
    return plain, fused, [_images(c), torch.softmax(torch.randn(len(primitives)), 0)]


def _cell(c: int, reduction: bool) -> tuple[nn.Module, nn.Module, list[Tensor]]:
    torch.manual_seed(0)
    settings = (2, 2, 3 * c, 4 * c, c, reduction, False, PRIMITIVES, True)  # two nodes
    plain = _shaken(cells.Cell(*settings))
    weights = torch.softmax(torch.randn(num_edges(2), len(PRIMITIVES)), 1)
    return plain, _same(plain, FusedCell(*settings)), [_images(3 * c), _images(4 * c), weights]


def _pointwise(c: int, reduce: bool) -> tuple[nn.Module, nn.Module, list[Tensor]]:
    torch.manual_seed(0)
    if reduce:
        plain: nn.Module = _shaken(primitives.FactorizedReduce(3 * c, c, True))
    else:
        plain = _shaken(primitives.ReLUConvBN(3 * c, c, 1, 1, 0, True))
    return plain, Pointwise(copy.deepcopy(plain)), [_images(3 * c)]


MIXED = {
    "an edge": partial(_edge, stride=1),
    "an edge of stride 2": partial(_edge, stride=2),
    "an edge of every primitive, recomputed": partial(_edge, stride=1, primitives=ALL_PRIMITIVES, recompute=True),
    "a normal cell": partial(_cell, reduction=False),
    "a reduction cell": partial(_cell, reduction=True),
}
POINTWISE = {"pointwise": partial(_pointwise, reduce=False), "factorized": partial(_pointwise, reduce=True)}


class Pointwise(nn.Module):
    """The op over the weights of its twin."""

    def __init__(self, twin: nn.Module) -> None:
        super().__init__()
        self.twin = twin

    def forward(self, x: Tensor) -> Tensor:
        convs = [m.weight for m in self.twin.modules() if isinstance(m, nn.Conv2d)]
        norm = next(m for m in self.twin.modules() if isinstance(m, nn.BatchNorm2d))
        out = ops.relu_conv_bn(x, convs, [norm.weight, norm.bias])[0]
        assert isinstance(out, Tensor)
        return out


def _images(c: int) -> Tensor:
    return torch.randn(BATCH, c, PIXELS, PIXELS)


def _shaken(module: nn.Module) -> nn.Module:
    """With scales of BatchNorm that differ from channel to channel."""
    for parameter in module.parameters():
        if parameter.dim() == 1:
            nn.init.uniform_(parameter, 0.5, 1.5)
    return module


def _same(plain: nn.Module, fused: nn.Module) -> nn.Module:
    fused.load_state_dict(plain.state_dict())
    return fused


def _module_case(
    op: str, what: str, device: str, c: int, dtype: str, plain: nn.Module, fused: nn.Module, inputs: list[Tensor]
) -> Case:
    rounded = DTYPES[dtype]
    plain, fused = plain.to(rounded).double(), fused.to(device)
    for parameter in fused.parameters():  # running statistics stay as they are, as in a network that trains
        parameter.data = parameter.data.to(rounded)
    values = [t.to(rounded) for t in inputs]
    expected = partial(_run, plain, _doubles(values), "cpu")
    is_deep = isinstance(fused, FusedCell)
    return Case(op, what, dtype, c, partial(_run, fused, values, device), expected, is_deep)


def _doubles(values: Sequence[Tensor]) -> list[Tensor]:
    return [t.double() for t in values]


def _run(module: nn.Module, inputs: Sequence[Tensor], device: str) -> Results:
    """Output, and the gradients of inputs and parameters."""
    leaves = [t.detach().to(device).requires_grad_() for t in inputs]
    out = module(*leaves)
    generator = torch.Generator().manual_seed(7)
    grad = torch.randn(out.shape, generator=generator, dtype=torch.float64).to(out)
    return [out, *torch.autograd.grad(out, [*leaves, *module.parameters()], grad)]


class _Shuffle(nn.Module):
    def __init__(self, plain: bool) -> None:
        super().__init__()
        self.plain = plain

    def forward(self, mixed: Tensor, passed: Tensor) -> Tensor:
        if self.plain:
            return cells.channel_shuffle(torch.cat([mixed, passed], dim=1), 4)
        out = ops.shuffle_channels(mixed, passed, 4)
        assert isinstance(out, Tensor)
        return out


def _shuffle(device: str, c: int, dtype: str) -> Case:
    torch.manual_seed(0)
    parts = [_images(c // 4), _images(c - c // 4)]
    return _module_case(
        "shuffle_channels", "partial channels", device, c, dtype, _Shuffle(True), _Shuffle(False), parts
    )


def _running_stats(device: str, c: int) -> Case:
    torch.manual_seed(0)
    norms, momentum, count = 3, 0.1, 50
    stats, before = torch.rand(norms, 2, c), torch.rand(norms, 2, c)

    def found() -> Results:
        means, variances = ([row.clone() for row in part] for part in before.to(device).unbind(1))
        batches = [torch.zeros((), dtype=torch.int64, device=device) for _ in range(norms)]
        ops.update_running_stats_(stats.to(device), means, variances, batches, momentum=momentum, count=count)
        return [*means, *variances, *batches]

    def expected() -> Results:
        mean, variance = stats.double().unbind(1)
        kept = before.double().unbind(1)
        means, variances = kept[0].lerp(mean, momentum), kept[1].lerp(variance * count / (count - 1), momentum)
        return [*means, *variances, *torch.ones(norms)]

    return Case("update_running_stats_", "three norms", "float32", c, found, expected)


def _network(c: int) -> SharedNetwork:
    torch.manual_seed(0)
    network = SharedNetwork(NASBench201(channels=c, cells=1), CLASSES)
    _shaken(network)
    for module in network.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.running_var = torch.rand(module.num_features) + 0.5
    return network


def _paths(device: str, c: int, per_operation: bool) -> Case:
    """Training by paths: logits, gradients, and the running statistics that they move."""
    network, images = _network(c).train(), torch.randn(2 * BATCH, 3, PIXELS, PIXELS)
    rows = network.space.sample(np.random.default_rng(0), 1 if per_operation else 2)

    def step(network: SharedNetwork, forward: Callable[[SharedNetwork, Tensor], Tensor]) -> Results:
        parameter = next(network.parameters())
        out = forward(network, images.to(parameter))
        weights = torch.randn(out.shape, generator=torch.Generator().manual_seed(5), dtype=torch.float64).to(out)
        parameters = list(network.parameters())
        grads = torch.autograd.grad(out, parameters, weights, allow_unused=True)
        zeros = [torch.zeros_like(p) if g is None else g for p, g in zip(parameters, grads, strict=True)]
        return [out, *zeros, *(b.clone() for b in network.buffers())]

    def fused(network: SharedNetwork, x: Tensor) -> Tensor:
        return forward_paths(network, x, rows, statistics="operation" if per_operation else "group")

    def loop(network: SharedNetwork, x: Tensor) -> Tensor:
        return torch.cat([network(group, row) for group, row in zip(x.chunk(len(rows)), rows, strict=True)])

    def found() -> Results:
        return step(copy.deepcopy(network).to(device), fused)

    def expected() -> Results:
        return step(copy.deepcopy(network).double(), loop)

    what = "one path, statistics of an operation" if per_operation else "two paths"
    return Case("supernet_paths and supernet_update_running_", what, "float32", c, found, expected, True)


def _children(device: str, c: int, dtype: str) -> Iterator[Case]:
    network = _network(c).eval()
    for module in network.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.momentum = None  # statistics are those of the one batch that calibrates
    rows = network.space.sample(np.random.default_rng(0), 6)
    images, calibration = (torch.randn(n, 3, PIXELS, PIXELS).to(DTYPES[dtype]) for n in (BATCH, 2 * BATCH))
    for given in (None, calibration):

        def found(given: Tensor | None = given) -> Results:
            on = None if given is None else given.to(device)
            results = evaluate_children(copy.deepcopy(network).to(device), rows, images.to(device), calibration=on)
            return [results.logits[results.index]]

        def expected(given: Tensor | None = given) -> Results:
            labels = torch.zeros(len(images), dtype=torch.int64)
            on = None if given is None else given.double()
            loop = Loop(copy.deepcopy(network).double(), rows, images.double(), labels, on)
            return [torch.stack([loop.logits(child) for child in range(len(rows))])]

        yield Case("child_eval", "calibrated" if given is not None else "as stored", dtype, c, found, expected)


def run(options: argparse.Namespace) -> bool:
    """Whether all ops are right."""
    dtypes = list(DTYPES) if options.device == "cuda" else list(ON_CPU)
    channels = CHANNELS[:1] if options.quick else CHANNELS
    verdicts = []
    for case in cases(options.device, channels, dtypes):
        verdicts.append(judge(case))
        print(verdicts[-1].line(), flush=True)
    failed = [verdict.case.title() for verdict in verdicts if not verdict.good]
    figures = {}
    for name in dict.fromkeys(verdict.case.dtype for verdict in verdicts):
        worst = max((v for v in verdicts if v.case.dtype == name), key=lambda v: v.error / v.case.allowed)
        figures[f"largest error, {name}"] = f"{worst.error:.1e} of {worst.case.allowed:g}"
    figures["ops that are right"] = f"{len(verdicts) - len(failed)} of {len(verdicts)}"
    content = {"lines": [v.line() for v in verdicts], "failed": failed, "key_figures": figures}
    arguments.write_json(options.json, {"bench": "gpu_smoke", **content})
    print(f"{len(verdicts) - len(failed)} of {len(verdicts)} are right", flush=True)
    return not failed


def parse(given: Sequence[str] | None = None) -> argparse.Namespace:
    return arguments.finish(arguments.make_parser("gpu_smoke", __doc__, cuda=True, device="cuda"), given)


def main() -> int:
    return 0 if run(parse()) else 1


if __name__ == "__main__":
    sys.exit(main())
