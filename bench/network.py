"""The DARTS search network, forward and backward: fused cells beside plain PyTorch.

A training step gives the gradient of every parameter and of the alphas. An architecture step needs those of the alphas
only: public code calls loss.backward(), which computes all of them; asking autograd for the alphas skips the rest.
With --device cuda see bench/network_cuda.py.
"""

from __future__ import annotations

import argparse
import copy
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from functools import cached_property
from typing import Any

import torch
from torch import Tensor, nn

from bench import arguments, plots, roofline, scaling
from bench.autocast import in_dtype
from bench.child import COLD_COMPILER, run_child
from bench.memory import process_memory, saved_bytes
from bench.tables import Row, megabytes, milliseconds, percent, section, times
from bench.timing import Step, Timing, compare
from bench.validate import check_error, relative_error
from nasfast.compat.darts import Network

ERROR_FACTOR = 3.0
ROUNDING = 1e-6
CLASSES = 10
CHILD_LIMIT = 600.0
WAYS: dict[str, dict[str, Any]] = {
    "eager": {"fused": False},
    "channels_last": {"fused": False, "channels_last": True},
    "fused": {"fused": True},
    "fused channels_last": {"fused": True, "channels_last": True},
    "fused recompute": {"fused": True, "recompute": True},
}

TIME_HEADERS = ("step", "way", "ms", "spread", "eager takes", "channels_last takes")
MEMORY_HEADERS = ("way", "saved, MB", "of eager's", "process peak, MB", "before the step, MB", "the step adds, MB")


@dataclass(frozen=True)
class Size:
    batch: int = 16
    channels: int = 16
    cells: int = 8
    pixels: int = 32

    def label(self) -> str:
        return f"C={self.channels}, {self.cells} cells, batch {self.batch}, {self.pixels}x{self.pixels}"


@dataclass(frozen=True)
class Way:
    """One way of computing the network, with images in the layout it is given."""

    network: Network
    images: Tensor
    labels: Tensor
    model: Callable[[Tensor], Tensor]  # what is called: the network, or what torch.compile made of it

    @cached_property
    def trained(self) -> list[Tensor]:
        """Listed once, as an optimizer does, so that the walk over the modules is not timed."""
        return [*self.network.parameters(), *self.network.arch_parameters()]

    def loss(self) -> Tensor:
        return nn.functional.cross_entropy(self.model(self.images), self.labels)

    def train_step(self) -> list[Tensor]:
        """Loss and the gradients of all parameters and alphas, by backward() as a training loop does."""
        for tensor in self.trained:
            tensor.grad = None
        loss = self.loss()
        loss.backward()
        return [loss.detach(), *(tensor.grad for tensor in self.trained if tensor.grad is not None)]

    def architecture_step(self) -> list[Tensor]:
        """The gradients of the alphas and no others."""
        return list(torch.autograd.grad(self.loss(), self.network.arch_parameters()))


def build_way(
    size: Size,
    fused: bool,
    channels_last: bool = False,
    recompute: bool = False,
    device: str = "cpu",
    dtype: str = "float32",
) -> Way:
    """The same numbers on every device. bfloat16 is autocast of a float32 network."""
    torch.manual_seed(0)
    plain = Network(size.channels, CLASSES, size.cells, None, fused=False)
    images = torch.randn(size.batch, 3, size.pixels, size.pixels)
    labels = torch.randint(CLASSES, (size.batch,))
    network = plain
    if fused:
        network = Network(size.channels, CLASSES, size.cells, None, fused=True, recompute=recompute)
        network.load_state_dict(plain.state_dict())
        with torch.no_grad():
            for alpha, source in zip(network.arch_parameters(), plain.arch_parameters(), strict=True):
                alpha.copy_(source)
    images, labels = images.to(device), labels.to(device)
    network.to(device)
    if channels_last:
        network.to(memory_format=torch.channels_last)
        images = images.contiguous(memory_format=torch.channels_last)
    return Way(network, images, labels, in_dtype(network, device, dtype))


def build_ways(size: Size) -> dict[str, Way]:
    return {name: build_way(size, **options) for name, options in WAYS.items()}


def validate(ways: Mapping[str, Way]) -> dict[str, float]:
    """The relative error of each way's gradients against the plain network in float64.

    Rounding alone moves the gradients of so deep a float32 network by some 1e-3, and in PyTorch's two layouts by
    different amounts. So a fused way is asked to be about as near to float64 as those are.

    Raises:
        MismatchError: a fused way is more than `ERROR_FACTOR` times as far from float64 as plain PyTorch.
    """
    exact = gradient_vectors(in_float64(ways["eager"]))
    return check_errors({name: gradient_vectors(way) for name, way in ways.items()}, exact)


def check_errors(results: Mapping[str, Sequence[Tensor]], exact: Sequence[Tensor]) -> dict[str, float]:
    """The largest relative error of each way's `gradient_vectors`; raises as `validate`."""
    errors = {
        name: [relative_error(*pair) for pair in zip(vectors, exact, strict=True)] for name, vectors in results.items()
    }
    for i, what in enumerate(("loss", "gradients of a training step", "gradients of the alphas alone")):
        allowed = ERROR_FACTOR * max(errors[name][i] for name in scaling.PLAIN_WAYS) + ROUNDING
        for name, found in errors.items():
            check_error(f"{name}, {what}", found[i], allowed)
    return {name: max(found) for name, found in errors.items()}


def in_float64(way: Way) -> Way:
    network = copy.deepcopy(way.network).double()
    return Way(network, way.images.double(), way.labels, network)


def gradient_vectors(way: Way) -> tuple[Tensor, Tensor, Tensor]:
    """The loss, all gradients of a training step in one vector, those of an architecture step in another."""
    loss, *gradients = way.train_step()
    return loss, flat(gradients), flat(way.architecture_step())


def flat(tensors: Sequence[Tensor]) -> Tensor:
    return torch.cat([tensor.flatten() for tensor in tensors])


def time_rows(title: str, timings: Mapping[str, Timing], baselines: tuple[str, str]) -> list[Row]:
    rows: list[Row] = []
    for name, timing in timings.items():
        ratios = [times(timings[slow].median / timing.median) for slow in baselines]
        rows.append((title, name, milliseconds(timing.median), percent(timing.spread), *ratios))
    return rows


def run_steps(options: argparse.Namespace, size: Size) -> dict[str, object]:
    rounds = 3 if options.quick else 9
    arguments.progress(1, 3, "comparing results")
    ways = build_ways(size)
    errors = validate(ways)
    arguments.progress(2, 3, "timing the training step")
    train = compare({name: way.train_step for name, way in ways.items()}, rounds, warmup=1)
    arguments.progress(3, 3, "timing the architecture step")
    steps: dict[str, Step] = {f"{name}, loss.backward()": ways[name].train_step for name in ("eager", "channels_last")}
    steps |= {f"{name}, autograd.grad": way.architecture_step for name, way in ways.items()}
    architecture = compare(steps, rounds, warmup=1)
    rows = time_rows("training", train, ("eager", "channels_last"))
    rows += time_rows("architecture", architecture, ("eager, loss.backward()", "channels_last, loss.backward()"))
    title = f"Search network, {size.label()}, {options.threads} threads"
    print(section(title, TIME_HEADERS, rows))
    distances = ", ".join(f"{name} {error:.1e}" for name, error in errors.items())
    print(f"\nError of the gradients against float64, relative: {distances}.")
    ratio = architecture["eager, autograd.grad"].median / architecture["fused, autograd.grad"].median
    print(f"\nArchitecture step: eager by autograd.grad takes {times(ratio)} as long as fused.", flush=True)
    return {
        "size": asdict(size),
        "errors": errors,
        "training": {name: timing.to_json() for name, timing in train.items()},
        "architecture": {name: timing.to_json() for name, timing in architecture.items()},
    }


def peak_memory(way: str, size: dict[str, int], threads: int) -> dict[str, int]:
    """Runs in a process of its own: bytes resident before a training step and at the highest."""
    torch.set_num_threads(threads)
    built = build_way(Size(**size), **WAYS[way])
    before = process_memory().now
    for _ in range(2):
        built.train_step()
    return {"before": before, "peak": process_memory().peak}


def run_memory(options: argparse.Namespace, size: Size) -> dict[str, object]:
    results: dict[str, dict[str, int]] = {}
    for i, name in enumerate(WAYS, 1):
        arguments.progress(i, len(WAYS), f"memory of {name}")
        way = build_way(size, **WAYS[name])
        saved = saved_bytes(way.loss, way.network)
        call = {"way": name, "size": asdict(size), "threads": options.threads}
        results[name] = {"saved": saved} | run_child("bench.network:peak_memory", call, CHILD_LIMIT)
    eager = results["eager"]["saved"]
    rows = []
    for name, found in results.items():
        added = found["peak"] - found["before"]
        sizes = (megabytes(count) for count in (found["peak"], found["before"], added))
        rows.append((name, megabytes(found["saved"]), f"1/{eager / found['saved']:.1f}", *sizes))
    print(section(f"Memory of a training step, {size.label()}", MEMORY_HEADERS, rows), flush=True)
    return dict(results)


def run_roofline(options: argparse.Namespace, size: Size) -> dict[str, object]:
    machine = roofline.measure_machine(options.threads)
    print(section("This machine", roofline.MACHINE_HEADERS, [roofline.machine_row(machine)]))
    way = build_way(size, **WAYS["fused"])
    steps: dict[str, Step] = {"training": way.train_step, "architecture": way.architecture_step}
    profiles = {}
    for name, step in steps.items():
        seconds = compare({name: step}, rounds=3)[name].median
        kernels = roofline.profile(step, options.threads, repeats=3)
        title = f"Kernels of a fused {name} step, {size.label()}"
        print(section(title, roofline.KERNEL_HEADERS, roofline.kernel_rows(kernels, machine, seconds)), flush=True)
        profiles[name] = roofline.kernel_json(kernels, machine)
    return {"machine": asdict(machine), "profiles": profiles}


def growth_sizes(quick: bool, threads: int) -> dict[str, tuple[int, ...]]:
    return {
        "batch": (4, 16) if quick else (4, 8, 16, 32),
        "channels": (8, 16) if quick else (8, 16, 32),
        "cells": (2, 5) if quick else (2, 5, 8),
    } | scaling.thread_sizes(threads)


def run_growth(options: argparse.Namespace, size: Size) -> list[scaling.Growth]:
    def steps(what: str, value: int) -> Mapping[str, Step]:
        grown = size if what == "threads" else replace(size, **{what: value})
        return {name: build_way(grown, **WAYS[name]).train_step for name in scaling.WAYS}

    sizes = growth_sizes(options.quick, options.threads)
    growths = scaling.grow(sizes, steps, 2, options.threads, warmup=1)
    title = f"Cost as it grows, search network (else {size.label()})"
    print(section(title, scaling.HEADERS, [row for growth in growths for row in growth.rows()]))
    plots.growth(options.plot, title, {growth.what: growth.panel() for growth in growths})
    return growths


def time_compiled(size: dict[str, int], threads: int) -> dict[str, float]:
    """Runs in a process of its own: seconds of the compiled twin's training step, and of the first one."""
    torch.set_num_threads(threads)
    way = build_way(Size(**size), **WAYS["channels_last"])
    compiled = replace(way, model=torch.compile(way.network))
    started = time.perf_counter()
    compiled.train_step()
    first = time.perf_counter() - started
    return {"first": first, "compiled": compare({"compiled": compiled.train_step}, rounds=3)["compiled"].median}


def run_compiled(options: argparse.Namespace, size: Size) -> dict[str, Any] | None:
    if options.compile_limit is None:
        return None
    arguments.progress(1, 1, f"compiling, at most {options.compile_limit:.0f} s")
    call = {"size": asdict(size), "threads": options.threads}
    found = run_child("bench.network:time_compiled", call, options.compile_limit, COLD_COMPILER)
    if found is None:
        print(f"\ntorch.compile of the channels_last twin did not end within {options.compile_limit:.0f} s")
    else:
        took = f"{milliseconds(found['compiled'])} ms a training step after {found['first']:.0f} s of compiling"
        print(f"\ntorch.compile of the channels_last twin: {took}")
    return {"limit": options.compile_limit, "seconds": found}


def main() -> None:
    options = arguments.parse("network", __doc__, cuda=True, traffic=True)
    if options.device == "cuda":
        from bench import network_cuda

        network_cuda.run(options)
        return
    size = Size(batch=8, cells=5) if options.quick else Size()
    results: dict[str, object] = {"bench": "network", "environment": arguments.print_environment(options)}
    results["steps"] = run_steps(options, size)
    results["memory"] = run_memory(options, size)
    results["roofline"] = run_roofline(options, size)
    results["growth"] = [growth.to_json() for growth in run_growth(options, size)]
    results["compiled"] = run_compiled(options, size)
    arguments.write_json(options.json, results)


if __name__ == "__main__":
    main()
