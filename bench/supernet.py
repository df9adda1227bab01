"""The training step of a shared network, beside the usual loop in plain PyTorch.

A step is zero_grad, forward, cross entropy and backward, on the same images and the same paths. The loop is
channels_last, and its graphs are built before it is timed:

- "single path": one path for the whole batch.
- "fair": as many paths as there are candidates, so that every candidate is trained once per step (FairNAS); the loop
  runs forward and backward of one after the other, and gradients add up.
- "per sample": every image takes a path of its own. The loop picks, at every place and for every candidate, the images
  that chose it, and puts the results back together; batch statistics are those of these images, in both.

Before anything is timed, loss and gradients must agree with the same loop in float64, within 1e-4 or three times what
the float32 loop itself is off. Peak memory is that of a process of its own, above what it held before its first step;
on a GPU, that of torch's allocator, above what it had given out before the step.
"""

from __future__ import annotations

import argparse
import contextlib
import copy
import functools
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from bench import arguments, cuda
from bench.child import run_child
from bench.memory import process_memory
from bench.tables import Row, megabytes, milliseconds, percent, section, times
from bench.timing import Timing, compare, speedup
from bench.validate import check_against_exact
from nasfast.spaces.base import Rows, Space
from nasfast.spaces.graph import Graph
from nasfast.spaces.nasbench201 import NASBench201
from nasfast.spaces.nasbench_macro import NASBenchMacro
from nasfast.supernets.paths import forward_paths
from nasfast.supernets.shared import SharedNetwork, run_graph

CLASSES = 10
HEADERS = (
    *("space", "paths", "images", "loop, ms", "kernels, ms", "speedup", "spread", "operations", "distinct"),
    *("loop peak, MB", "kernels peak, MB", "error", "loop's error"),
)
MEMORY_LIMIT = 600.0  # seconds for the process that measures memory
SPACES: dict[str, Callable[[], Space]] = {"NAS-Bench-201": NASBench201, "Macro": NASBenchMacro}


@dataclass(frozen=True)
class Case:
    """A step to time."""

    space: str
    paths: str
    batch: int
    pixels: int = 32

    def rows(self, space: Space) -> Rows:
        generator = np.random.default_rng(0)
        if self.paths == "single path":
            return space.sample(generator, 1)
        if self.paths == "per sample":
            return space.sample(generator, self.batch)
        # Columns are permutations: every candidate of every place is in one row.
        return np.stack([generator.permutation(size) for size in space.sizes.tolist()], 1).astype(np.int64)

    def images(self) -> Tensor:
        """The same numbers on every device."""
        generator = torch.Generator().manual_seed(1)
        images = torch.randn(self.batch, 3, self.pixels, self.pixels, generator=generator)
        return images.to(memory_format=torch.channels_last)


class Loop:
    """Plain PyTorch: path after path, or place by place where every image has its own."""

    def __init__(self, case: Case, network: SharedNetwork, rows: Rows, images: Tensor, labels: Tensor) -> None:
        self.network, self.rows, self.images, self.labels = network, rows, images, labels
        self.by_place = case.paths == "per sample"
        self.graphs = [] if self.by_place else [network.space.graph(row, CLASSES) for row in rows]

    def step(self) -> Tensor:
        self.network.zero_grad(set_to_none=True)
        if self.by_place:
            loss = F.cross_entropy(self._per_sample(), self.labels)
            loss.backward()
            return loss.detach()
        total = torch.zeros((), dtype=self.images.dtype, device=self.images.device)
        parts = zip(self.graphs, self.images.chunk(len(self.rows)), self.labels.chunk(len(self.rows)), strict=True)
        for graph, images, labels in parts:
            loss = self._loss(graph, images, labels)
            loss.backward()
            total += loss.detach()
        return total

    def _loss(self, graph: Graph, images: Tensor, labels: Tensor) -> Tensor:
        return F.cross_entropy(run_graph(graph, self.network, images), labels, reduction="sum") / len(self.images)

    def _per_sample(self) -> Tensor:
        network = self.network
        assert network.places is not None
        values: list[Tensor] = []
        for place in network.places:
            first = place.nodes[0]
            read = [values[i] for i in first.inputs]
            if first.kind == "input":
                values.append(self.images)
            elif first.kind == "sum":
                values.append(functools.reduce(torch.add, read))
            elif place.decision < 0:
                values.append(network.compute(first, read[0]))
            else:
                chosen = torch.from_numpy(self.rows[:, place.decision])
                picked, parts = [], []
                for choice, node in enumerate(place.nodes):
                    index = (chosen == choice).nonzero()[:, 0]  # on the CPU: how many there are is asked for
                    if not len(index):
                        continue
                    index = index.to(read[0].device)
                    x, op = read[0].index_select(0, index), node.op
                    assert op is not None
                    y = x if op.is_identity else torch.zeros_like(x) if op.is_zero else network.compute(node, x)
                    picked.append(index)
                    parts.append(y)
                values.append(torch.cat(parts).index_select(0, torch.cat(picked).argsort()))
        return values[-1]


class Kernels:
    """The same step on the supernet kernels."""

    def __init__(self, case: Case, network: SharedNetwork, rows: Rows, images: Tensor, labels: Tensor) -> None:
        self.network, self.rows, self.images, self.labels = network, rows, images, labels
        self.per_operation = case.paths == "per sample"

    def step(self) -> Tensor:
        self.network.zero_grad(set_to_none=True)
        statistics = "operation" if self.per_operation else "group"
        logits = forward_paths(self.network, self.images, self.rows, statistics=statistics)  # type: ignore[arg-type]
        loss = F.cross_entropy(logits, self.labels)
        loss.backward()
        return loss.detach()


WAYS: dict[str, type[Loop] | type[Kernels]] = {"loop": Loop, "kernels": Kernels}


def make_way(case: Case, way: str, dtype: torch.dtype = torch.float32, device: str = "cpu") -> Loop | Kernels:
    torch.manual_seed(0)
    space = SPACES[case.space]()
    network = SharedNetwork(space, CLASSES).to(device, dtype).to(memory_format=torch.channels_last).train()
    labels = torch.arange(case.batch, device=device) % CLASSES
    return WAYS[way](case, network, case.rows(space), case.images().to(device, dtype), labels)


def peak_of(case: dict[str, object], way: str, threads: int) -> int:
    """Bytes of resident memory that two steps add at their highest, in this process."""
    torch.set_num_threads(threads)
    made = make_way(Case(**case), way)  # type: ignore[arg-type]
    before = process_memory().now
    for _ in range(2):
        made.step()
    return process_memory().peak - before


@dataclass(frozen=True)
class Errors:
    kernels: float
    loop: float


@dataclass(frozen=True)
class Result:
    case: Case
    timings: dict[str, Timing]
    errors: Errors
    operations: int
    distinct: int
    peaks: dict[str, int]

    def row(self) -> Row:
        return (
            *(self.case.space, self.case.paths, f"{self.case.batch}"),
            milliseconds(self.timings["loop"].median),
            milliseconds(self.timings["kernels"].median),
            times(speedup(self.timings, "loop", "kernels")),
            percent(max(timing.spread for timing in self.timings.values())),
            *(f"{self.operations}", f"{self.distinct}"),
            *(megabytes(self.peaks[way]) for way in WAYS),
            f"{self.errors.kernels:.0e}",
            f"{self.errors.loop:.0e}",
        )

    def to_json(self) -> dict[str, object]:
        timings = {name: timing.to_json() for name, timing in self.timings.items()}
        rest = {"operations": self.operations, "distinct": self.distinct, "peak_bytes": self.peaks}
        return {"case": asdict(self.case), "timings": timings, "errors": asdict(self.errors), **rest}


def results_of(made: Loop | Kernels) -> list[Tensor]:
    """Loss and the gradient of every parameter, as one vector."""
    loss = made.step()
    given = [torch.zeros_like(p) if p.grad is None else p.grad for p in made.network.parameters()]
    return [loss, torch.cat([grad.flatten() for grad in given])]


def validate(case: Case, device: str = "cpu") -> Errors:
    """Raises MismatchError where the kernels are further off than they may be."""
    with cuda.exact_float32() if device == "cuda" else contextlib.nullcontext():
        found = {way: results_of(make_way(case, way, device=device)) for way in WAYS}
        exact = results_of(make_way(case, "loop", torch.float64, device))
    error = check_against_exact(f"{case.space}, {case.paths}", found, exact, ["loop"])
    difference = torch.linalg.vector_norm(found["loop"][1].double() - exact[1])
    return Errors(error, float(difference / torch.linalg.vector_norm(exact[1])))


def count_operations(case: Case) -> tuple[int, int]:
    """Operations with weights and pools on all paths, and how many of them are different ones."""
    space = SPACES[case.space]()
    asked = [
        (node.weights, node.op)
        for row in case.rows(space)
        for node in space.graph(row, CLASSES).nodes
        if node.op is not None and node.weights
    ]
    return len(asked), len(set(asked))


def measure(case: Case, rounds: int, threads: int, device: str = "cpu") -> Result:
    errors = validate(case, device)
    made = {way: copy.deepcopy(make_way(case, way, device=device)) for way in WAYS}
    steps = {way: step.step for way, step in made.items()}
    if device == "cuda":
        timings = cuda.compare(steps, rounds)
        held = {way: cuda.step_memory(step) for way, step in steps.items()}
        peaks = {way: memory.peak - memory.before for way, memory in held.items()}
    else:
        timings = compare(steps, rounds, warmup=2)
        peaks = {way: _process_peak(case, way, threads) for way in WAYS}
    return Result(case, timings, errors, *count_operations(case), peaks)


def _process_peak(case: Case, way: str, threads: int) -> int:
    peak = run_child("bench.supernet:peak_of", {"case": asdict(case), "way": way, "threads": threads}, MEMORY_LIMIT)
    return int(peak or 0)


def run_cases(options: argparse.Namespace, keep: Callable[[list[Result]], None]) -> None:
    """`keep` gets the results after every case, so that they are there if the rest is cut."""
    batches: dict[str, tuple[int, ...]] = {"single path": (64, 16), "fair": (60, 15), "per sample": (64, 16)}
    cases = []
    for space in options.spaces or SPACES:
        candidates = int(SPACES[space]().sizes.max())
        for paths, sizes in batches.items():
            for batch in _some(sizes, options):
                cases.append(Case(space, paths, batch // candidates * candidates if paths == "fair" else batch))
    results: list[Result] = []
    for i, case in enumerate(cases, 1):
        arguments.progress(i, len(cases), f"timing {case.space}, {case.paths}, {case.batch} images")
        rounds = options.rounds or (3 if options.quick else 9)
        results.append(measure(case, rounds, options.threads, options.device))
        print(section("Training step", HEADERS, [results[-1].row()]), flush=True)
        keep(results)
    where = f"{options.threads} threads" if options.device == "cpu" else "all"
    print(section(f"Training step, {where}", HEADERS, [r.row() for r in results]), flush=True)


def _some(sizes: Sequence[int], options: argparse.Namespace) -> Sequence[int]:
    """Of two batches the small one for a look; on a GPU, where a step of it is nothing but launches, the large one."""
    if options.device == "cuda":
        return sizes[:1]
    return sizes[1:] if options.quick else sizes


def key_figures(results: Sequence[Result]) -> dict[str, str]:
    """What a look at the results is for."""
    return {
        f"{r.case.space}, {r.case.paths}, {r.case.batch} images": (
            f"{milliseconds(r.timings['kernels'].median)} ms, {times(speedup(r.timings, 'loop', 'kernels'))} the loop's"
        )
        for r in results
    }


def parse(given: Sequence[str] | None = None) -> argparse.Namespace:
    parser = arguments.make_parser("supernet", __doc__, cuda=True)
    arguments.add_rounds(parser)
    parser.add_argument("--spaces", nargs="+", choices=list(SPACES), metavar="SPACE", help="train these alone")
    return arguments.finish(parser, given)


def main() -> None:
    options = parse()
    results: dict[str, object] = {"bench": "supernet", "environment": arguments.print_environment(options)}
    if options.device == "cuda":
        torch.backends.cudnn.benchmark = True
        print(f"\nTimed with {cuda.CLOCK}.")

    def keep(found: list[Result]) -> None:
        cases = {"cases": [result.to_json() for result in found], "key_figures": key_figures(found)}
        arguments.write_json(options.json, results | cases)

    run_cases(options, keep)


if __name__ == "__main__":
    main()
