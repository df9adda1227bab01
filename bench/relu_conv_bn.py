"""The pre-processing of a cell, forward and backward, and the running statistics of a whole cell: beside plain PyTorch.

Backward gives the gradients of the input and every parameter. The twins are nasfast.nn.primitives.ReLUConvBN and
nasfast.nn.primitives.FactorizedReduce, contiguous ("eager") and channels_last. Running statistics move as in a training
step; their twins are one `lerp_` per BatchNorm and buffer ("eager"), and torch._foreach_lerp_ over all of them.
"""

from __future__ import annotations

import argparse
import copy
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from functools import cached_property

import torch
from torch import Tensor, nn

from bench import arguments
from bench.memory import saved_bytes
from bench.tables import Row, megabytes, milliseconds, percent, section, times
from bench.timing import Step, Timing, compare, speedup
from bench.validate import check_against_exact, check_error, relative_error
from nasfast.kernels import ops
from nasfast.nn.fused import ParamList, run_preprocess
from nasfast.nn.primitives import FactorizedReduce, ReLUConvBN

PLAIN = ("eager", "channels_last")
FUSED = ("fused", "fused recompute")
# Input channels (4 nodes of the cell before), channels and pixels of the three stages of the search network.
SIZES = ((64, 16, 32), (128, 32, 16), (256, 64, 8))
NORMS = ((112, 16), (112, 32), (112, 64))  # BatchNorms and channels of a cell with 14 edges
STATS_WAYS = ("eager", "foreach", "fused")
MOMENTUM = 0.1

HEADERS = (
    *("", "in", "C", "pixels", "batch", "eager, ms", "channels_last, ms", "fused, ms", "recompute, ms", "spread"),
    *("over eager", "over channels_last", "eager saves, MB", "fused, MB", "recompute, MB"),
)
STATS_HEADERS = ("BatchNorms", "C", "eager, ms", "foreach, ms", "fused, ms", "spread", "over eager", "over foreach")


class FusedEntry(nn.Module):
    """A reference module's layers on `ops.relu_conv_bn` and `ops.update_running_stats_`."""

    def __init__(self, twin: nn.Module, recompute: bool) -> None:
        super().__init__()
        self.twin = twin
        self.layers = ParamList([twin])
        self.recompute = recompute

    def forward(self, x: Tensor) -> Tensor:
        return run_preprocess(self.layers, x, self.recompute)


@dataclass(frozen=True)
class Entry:
    """Pre-processing to images of `pixels` x `pixels`; one that halves takes them at twice the size."""

    halves: bool
    inputs: int
    channels: int
    pixels: int
    batch: int

    def label(self) -> Row:
        kind = "1x1, halves" if self.halves else "1x1"
        return (kind, str(self.inputs), str(self.channels), str(self.pixels), str(self.batch))

    def twin(self) -> nn.Module:
        if self.halves:
            return FactorizedReduce(self.inputs, self.channels, affine=False)
        return ReLUConvBN(self.inputs, self.channels, 1, 1, 0, affine=False)


@dataclass(frozen=True)
class Way:
    """One way of computing an entry, with tensors in the layout it is given."""

    module: nn.Module
    x: Tensor
    grad: Tensor

    @cached_property
    def inputs(self) -> list[Tensor]:
        """What gradients are taken of; listed once, so that the walk over the module is not timed."""
        return [self.x, *self.module.parameters()]

    def forward(self) -> Tensor:
        return self.module(self.x)

    def step(self) -> list[Tensor]:
        """Output and the gradients of input and parameters."""
        out = self.forward()
        return [out, *torch.autograd.grad(out, self.inputs, self.grad)]


def build_ways(entry: Entry) -> dict[str, Way]:
    torch.manual_seed(0)
    twin = entry.twin()
    size = entry.pixels * (2 if entry.halves else 1)
    x = torch.randn(entry.batch, entry.inputs, size, size)
    grad = torch.randn(entry.batch, entry.channels, entry.pixels, entry.pixels)

    def way(module: nn.Module, layout: torch.memory_format) -> Way:
        own_x, own_grad = (tensor.clone(memory_format=layout) for tensor in (x, grad))
        return Way(module, own_x.requires_grad_(), own_grad)

    nhwc = torch.channels_last
    return {
        "eager": way(twin, torch.contiguous_format),
        "channels_last": way(copy.deepcopy(twin).to(memory_format=nhwc), nhwc),
        "fused": way(FusedEntry(copy.deepcopy(twin), recompute=False), nhwc),
        "fused recompute": way(FusedEntry(copy.deepcopy(twin), recompute=True), nhwc),
    }


def validate(entry: Entry, ways: Mapping[str, Way]) -> float:
    """The largest relative error of the fused ways against the plain twin in float64."""
    plain = ways["eager"]
    exact = Way(copy.deepcopy(plain.module).double(), plain.x.detach().double().requires_grad_(), plain.grad.double())
    results = {name: way.step() for name, way in ways.items()}
    return check_against_exact(str(entry), results, exact.step(), PLAIN)


@dataclass(frozen=True)
class EntryResult:
    entry: Entry
    error: float
    timings: dict[str, Timing]
    saved: dict[str, int]

    def row(self) -> Row:
        return (
            *self.entry.label(),
            *(milliseconds(self.timings[name].median) for name in (*PLAIN, *FUSED)),
            percent(max(timing.spread for timing in self.timings.values())),
            *(times(speedup(self.timings, slow, "fused")) for slow in PLAIN),
            *(megabytes(self.saved[name]) for name in ("eager", *FUSED)),
        )

    def to_json(self) -> dict[str, object]:
        timings = {name: timing.to_json() for name, timing in self.timings.items()}
        return {"entry": asdict(self.entry), "error": self.error, "timings": timings, "saved_bytes": self.saved}


def measure(entry: Entry, rounds: int) -> EntryResult:
    ways = build_ways(entry)
    error = validate(entry, ways)
    saved = {name: saved_bytes(way.forward, way.module) for name, way in ways.items()}
    return EntryResult(entry, error, compare({name: way.step for name, way in ways.items()}, rounds), saved)


@dataclass(frozen=True)
class Statistics:
    """Running statistics of some BatchNorms, and those of a batch of `count` values per channel."""

    used: Tensor
    means: list[Tensor]
    variances: list[Tensor]
    batches: list[Tensor]
    count: int

    @classmethod
    def zeros(cls, used: Tensor, count: int) -> Statistics:
        norms, _, channels = used.shape
        means, variances = ([torch.zeros(channels) for _ in range(norms)] for _ in range(2))
        return cls(used, means, variances, [torch.zeros((), dtype=torch.long) for _ in range(norms)], count)

    def eager(self) -> None:
        unbiased = self.count / (self.count - 1)
        for k, (mean, variance, batch) in enumerate(zip(self.means, self.variances, self.batches, strict=True)):
            mean.lerp_(self.used[k, 0], MOMENTUM)
            variance.lerp_(self.used[k, 1] * unbiased, MOMENTUM)
            batch.add_(1)

    def foreach(self) -> None:
        variances = self.used[:, 1] * (self.count / (self.count - 1))
        torch._foreach_lerp_(self.means, list(self.used[:, 0].unbind()), MOMENTUM)
        torch._foreach_lerp_(self.variances, list(variances.unbind()), MOMENTUM)
        torch._foreach_add_(self.batches, 1)

    def fused(self) -> None:
        ops.update_running_stats_(
            self.used, self.means, self.variances, self.batches, momentum=MOMENTUM, count=self.count
        )


def stats_steps(norms: int, channels: int) -> dict[str, Step]:
    """The three ways, each found equal to the first, on statistics of its own."""
    used = torch.rand(norms, 2, channels)
    own = {name: Statistics.zeros(used, count=1024) for name in STATS_WAYS}
    steps: dict[str, Callable[[], None]] = {name: getattr(own[name], name) for name in STATS_WAYS}
    for step in steps.values():
        step()
    expected = own["eager"]
    for name, statistics in own.items():
        pairs = [(statistics.means, expected.means), (statistics.variances, expected.variances)]
        for got, right in pairs:
            check_error(f"running statistics, {name}", relative_error(torch.stack(got), torch.stack(right)), 1e-6)
    return dict(steps)


def run_entries(options: argparse.Namespace) -> list[EntryResult]:
    batches = (16,) if options.quick else (16, 64)
    entries = [Entry(halves, *size, batch) for size in SIZES for batch in batches for halves in (False, True)]
    results = []
    for i, entry in enumerate(entries, 1):
        arguments.progress(i, len(entries), f"timing {entry}")
        results.append(measure(entry, rounds=5 if options.quick else 15))
    title = f"relu, 1x1 convolution, BatchNorm: forward + backward, {options.threads} threads (checked before timing)"
    print(section(title, HEADERS, [result.row() for result in results]), flush=True)
    return results


def run_stats(options: argparse.Namespace) -> list[dict[str, object]]:
    rows, results = [], []
    for norms, channels in NORMS:
        timings = compare(stats_steps(norms, channels), rounds=5 if options.quick else 15)
        spread = percent(max(timing.spread for timing in timings.values()))
        seconds = (milliseconds(timings[name].median) for name in STATS_WAYS)
        ratios = (times(speedup(timings, slow, "fused")) for slow in STATS_WAYS[:2])
        rows.append((str(norms), str(channels), *seconds, spread, *ratios))
        found = {name: timing.to_json() for name, timing in timings.items()}
        results.append({"norms": norms, "channels": channels, "timings": found})
    print(section("Running statistics of a cell's BatchNorms", STATS_HEADERS, rows), flush=True)
    return results


def main() -> None:
    options = arguments.parse("relu_conv_bn", __doc__, plot=False)
    results: dict[str, object] = {"bench": "relu_conv_bn", "environment": arguments.print_environment(options)}
    results["entries"] = [result.to_json() for result in run_entries(options)]
    results["running_statistics"] = run_stats(options)
    arguments.write_json(options.json, results)


if __name__ == "__main__":
    main()
