"""One edge of a search cell, forward and backward: the fused mixed op beside plain PyTorch.

Backward gives the gradients of the input, the architecture weights and every parameter. The twin is
nasfast.nn.cells.MixedOp, contiguous ("eager") and channels_last. With --device cuda see bench/mixed_op_cuda.py.
"""

from __future__ import annotations

import argparse
import copy
import time
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, replace
from functools import cached_property
from typing import Any

import torch
from torch import Tensor, nn

from bench import arguments, plots, roofline, scaling
from bench.autocast import DTYPES, in_dtype
from bench.child import COLD_COMPILER, run_child
from bench.memory import saved_bytes
from bench.tables import Row, megabytes, milliseconds, percent, section, times
from bench.timing import Step, Timing, compare, speedup
from bench.validate import check_against_exact
from nasfast.nn.cells import MixedOp
from nasfast.nn.fused import FusedMixedOp

SIZES = ((16, 32), (32, 16), (64, 8))  # channels and pixels of the three stages of the search network
WAYS = ("eager", "channels_last", "fused", "fused NCHW", "fused recompute")

TIME_HEADERS = (
    *("C", "pixels", "batch", "stride", "eager, ms", "channels_last, ms", "fused, ms", "spread"),
    *("over eager", "over channels_last", "fused NCHW, ms", "recompute, ms"),
)
SAVED_HEADERS = (
    *("C", "pixels", "batch", "stride", "input, MB", "eager, MB", "fused, MB", "recompute, MB"),
    *("fused", "recompute", "recompute, input apart"),
)
COMPILE_HEADERS = ("C", "pixels", "batch", "stride", "compiled, ms", "compiling, s", "over fused")


@dataclass(frozen=True)
class Edge:
    batch: int
    channels: int
    pixels: int
    stride: int

    def label(self) -> tuple[str, str, str, str]:
        return (str(self.channels), str(self.pixels), str(self.batch), str(self.stride))


@dataclass(frozen=True)
class Way:
    """One way of computing an edge, with inputs in the layout it is given."""

    module: nn.Module
    x: Tensor
    weights: Tensor
    grad: Tensor
    run: Callable[[Tensor, Tensor], Tensor]  # the module, or what torch.compile made of it

    @cached_property
    def inputs(self) -> list[Tensor]:
        """What gradients are taken of; listed once, so that the walk over the module is not timed."""
        return [self.x, self.weights, *self.module.parameters()]

    def forward(self) -> Tensor:
        return self.run(self.x, self.weights)

    def step(self) -> list[Tensor]:
        """Output and the gradients of input, architecture weights and parameters."""
        out = self.forward()
        return [out, *torch.autograd.grad(out, self.inputs, self.grad)]


def build_ways(edge: Edge, device: str = "cpu", dtype: str = "float32") -> dict[str, Way]:
    """The same numbers on every device. bfloat16 is autocast, of images that come in bfloat16 from the cell before."""
    torch.manual_seed(0)
    precision = DTYPES[dtype]
    twin = MixedOp(edge.channels, edge.stride)
    x = torch.randn(edge.batch, edge.channels, edge.pixels, edge.pixels).to(device, precision)
    weights = torch.softmax(torch.randn(len(twin.primitives)), 0).to(device).requires_grad_()
    size = edge.pixels // edge.stride
    grad = torch.randn(edge.batch, edge.channels, size, size).to(device, precision)

    def way(module: nn.Module, layout: torch.memory_format) -> Way:
        x_copy, grad_copy = (tensor.contiguous(memory_format=layout) for tensor in (x, grad))
        run = in_dtype(module.to(device), device, dtype)
        return Way(module, x_copy.detach().requires_grad_(), weights, grad_copy, run)

    def fused(recompute: bool = False) -> FusedMixedOp:
        module = FusedMixedOp(edge.channels, edge.stride, recompute=recompute)
        module.load_state_dict(twin.state_dict())
        return module

    nhwc = torch.channels_last
    return {
        "eager": way(twin, torch.contiguous_format),
        "channels_last": way(copy.deepcopy(twin).to(memory_format=nhwc), nhwc),
        "fused": way(fused(), nhwc),
        "fused NCHW": way(fused(), torch.contiguous_format),
        "fused recompute": way(fused(recompute=True), nhwc),
    }


def validate(edge: Edge, ways: Mapping[str, Way]) -> float:
    """The largest relative error of the fused ways against the plain twin in float64."""
    return check_against_exact(str(edge), {name: ways[name].step() for name in WAYS}, exact_results(ways), WAYS[:2])


def exact_results(ways: Mapping[str, Way]) -> list[Tensor]:
    """What the plain twin gives in float64."""
    plain = ways["eager"]
    exact_ways = Way(
        copy.deepcopy(plain.module).double(),
        plain.x.detach().double().requires_grad_(),
        plain.weights.detach().double().requires_grad_(),
        plain.grad.double(),
        plain.run,
    )
    return replace(exact_ways, run=exact_ways.module).step()


def steps_of(ways: Mapping[str, Way]) -> dict[str, Step]:
    return {name: way.step for name, way in ways.items()}


@dataclass(frozen=True)
class EdgeResult:
    edge: Edge
    error: float
    timings: dict[str, Timing]
    saved: dict[str, int]
    input_bytes: int  # part of what every way saves, and held by the caller anyway

    def time_row(self) -> Row:
        medians = [self.timings[name].median for name in WAYS]
        ratios = [times(speedup(self.timings, slow, "fused")) for slow in WAYS[:2]]
        seconds = [milliseconds(median) for median in medians]
        spread = percent(max(timing.spread for timing in self.timings.values()))
        return (*self.edge.label(), *seconds[:3], spread, *ratios, *seconds[3:])

    def saved_row(self) -> Row:
        eager, fused, recompute = (self.saved[name] for name in ("eager", "fused", "fused recompute"))
        sizes = (megabytes(count) for count in (self.input_bytes, eager, fused, recompute))
        apart = (eager - self.input_bytes) / (recompute - self.input_bytes)
        return (*self.edge.label(), *sizes, *(f"1/{ratio:.1f}" for ratio in (eager / fused, eager / recompute, apart)))

    def to_json(self) -> dict[str, object]:
        timings = {name: timing.to_json() for name, timing in self.timings.items()}
        return {
            "edge": asdict(self.edge),
            "error": self.error,
            "timings": timings,
            "saved_bytes": self.saved,
            "input_bytes": self.input_bytes,
        }


def measure(edge: Edge, rounds: int) -> EdgeResult:
    ways = build_ways(edge)
    error = validate(edge, ways)
    saved = {name: saved_bytes(way.forward, way.module) for name, way in ways.items()}
    x = ways["eager"].x
    return EdgeResult(edge, error, compare(steps_of(ways), rounds), saved, x.numel() * x.element_size())


def time_compiled(edge: dict[str, int], threads: int, rounds: int) -> dict[str, float]:
    """Runs in a process of its own: seconds of the compiled twin, of compiling it, and of the fused op beside it."""
    torch.set_num_threads(threads)
    ways = build_ways(Edge(**edge))
    twin = ways["channels_last"]
    compiled = replace(twin, run=torch.compile(twin.module))
    started = time.perf_counter()
    compiled.step()
    first = time.perf_counter() - started
    later = compare({"compiled": compiled.step, "fused": ways["fused"].step}, rounds)
    return {"first": first, "compiled": later["compiled"].median, "fused": later["fused"].median}


def growth_edges(quick: bool, threads: int) -> dict[str, tuple[int, ...]]:
    return {
        "batch": (4, 16, 64) if quick else (1, 4, 16, 64, 128),
        "channels": (8, 16, 32) if quick else (4, 8, 16, 32, 64, 128),
        "pixels": (8, 16, 32) if quick else (4, 8, 16, 32, 64),
    } | scaling.thread_sizes(threads)


def grown(what: str, size: int) -> Mapping[str, Step]:
    base = {"batch": 16, "channels": 16, "pixels": 32, "stride": 1}
    return steps_of(build_ways(Edge(**(base | ({} if what == "threads" else {what: size})))))


def edges_for(quick: bool) -> list[Edge]:
    batches = (16,) if quick else (16, 64)
    return [Edge(batch, c, pixels, stride) for c, pixels in SIZES for batch in batches for stride in (1, 2)]


def run_edges(options: argparse.Namespace) -> list[EdgeResult]:
    edges, results = edges_for(options.quick), []
    for i, edge in enumerate(edges, 1):
        arguments.progress(i, len(edges), f"timing {edge}")
        results.append(measure(edge, rounds=5 if options.quick else 15))
    title = f"One edge, forward + backward, {options.threads} threads (results compared with float64 before timing)"
    print(section(title, TIME_HEADERS, [result.time_row() for result in results]))
    print(section("Saved for backward", SAVED_HEADERS, [result.saved_row() for result in results]), flush=True)
    return results


def run_compiled(options: argparse.Namespace) -> list[dict[str, Any]]:
    if options.compile_limit is None:
        return []
    rows, results = [], []
    edges = [Edge(16, c, pixels, 1) for c, pixels in (SIZES[:1] if options.quick else SIZES)]
    for i, edge in enumerate(edges, 1):
        arguments.progress(i, len(edges), f"compiling {edge}")
        call = {"edge": asdict(edge), "threads": options.threads, "rounds": 5}
        found = run_child("bench.mixed_op:time_compiled", call, options.compile_limit, COLD_COMPILER)
        results.append({"edge": asdict(edge), "seconds": found, "limit": options.compile_limit})
        cells = ("-", f"more than {options.compile_limit:.0f}", "-")
        if found:
            ratio = times(found["compiled"] / found["fused"])
            cells = (milliseconds(found["compiled"]), f"{found['first']:.1f}", ratio)
        rows.append((*edge.label(), *cells))
    print(section("torch.compile of the channels_last twin", COMPILE_HEADERS, rows), flush=True)
    return results


def run_roofline(options: argparse.Namespace) -> dict[str, object]:
    machine = roofline.measure_machine(options.threads)
    print(section("This machine", roofline.MACHINE_HEADERS, [roofline.machine_row(machine)]))
    profiles = []
    for channels, pixels in SIZES:
        edge = Edge(16, channels, pixels, 1)
        fused = build_ways(edge)["fused"]
        seconds = compare({"fused": fused.step}, rounds=5)["fused"].median
        kernels = roofline.profile(fused.step, options.threads)
        title = f"Kernels of one fused edge, C={channels}, {pixels} pixels, batch {edge.batch}, stride {edge.stride}"
        print(section(title, roofline.KERNEL_HEADERS, roofline.kernel_rows(kernels, machine, seconds)), flush=True)
        profiles.append({"edge": asdict(edge), "kernels": roofline.kernel_json(kernels, machine)})
    return {"machine": asdict(machine), "profiles": profiles}


def run_growth(options: argparse.Namespace) -> list[scaling.Growth]:
    sizes = growth_edges(options.quick, options.threads)
    growths = scaling.grow(sizes, grown, 3 if options.quick else 7, options.threads)
    title = "Cost as it grows, one edge (else batch 16, C=16, 32 pixels, stride 1)"
    print(section(title, scaling.HEADERS, [row for growth in growths for row in growth.rows()]))
    plots.growth(options.plot, title, {growth.what: growth.panel() for growth in growths})
    return growths


def main() -> None:
    options = arguments.parse("mixed_op", __doc__, cuda=True, traffic=True)
    if options.device == "cuda":
        from bench import mixed_op_cuda

        mixed_op_cuda.run(options)
        return
    results: dict[str, object] = {"bench": "mixed_op", "environment": arguments.print_environment(options)}
    results["edges"] = [result.to_json() for result in run_edges(options)]
    results["roofline"] = run_roofline(options)
    results["growth"] = [growth.to_json() for growth in run_growth(options)]
    results["compiled"] = run_compiled(options)
    arguments.write_json(options.json, results)


if __name__ == "__main__":
    main()
