"""Batched evaluation of children of a shared network, beside a loop over them in plain PyTorch.

The loop runs each child alone: channels_last, no_grad, the same images; with recalibration it resets the child's
BatchNorms and runs one batch in training mode first. Its graphs are built before it is timed. The batched time holds
all it takes: merging the population, packing the weights, evaluation, accuracies. Before anything is timed, accuracies
must be identical to the loop's, and logits within 1e-4 of the same loop in float64. (The float32 loop itself is further
off with recalibration: PyTorch sums channels_last batch statistics of large batches less exactly.)

Populations: "random" is uniform; "evolved" is what regularized evolution (population 64, tournaments of 16, one
mutation) holds after 400 children, with the number of decisions shared with a hidden row as fitness. With --device cuda
see bench/child_eval_cuda.py.
"""

from __future__ import annotations

import argparse
import copy
import statistics
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field
from functools import partial

import numpy as np
import torch
from torch import Tensor, nn

from bench import arguments
from bench.autocast import DTYPES
from bench.memory import process_memory
from bench.tables import Row, megabytes, percent, section, times
from bench.timing import Timing, compare, speedup
from bench.validate import MismatchError, check_error, relative_error
from nasfast import _C
from nasfast.spaces.base import Rows, Space
from nasfast.spaces.graph import Graph
from nasfast.spaces.mobilenet import MobileNetSpace
from nasfast.spaces.nasbench201 import NASBench201
from nasfast.spaces.nasbench_macro import NASBenchMacro
from nasfast.supernets import make_supernet
from nasfast.supernets.batched_eval import MEMORY_BOUND, ChildPlan, ChildPlanner, ChildResults
from nasfast.supernets.shared import SharedNetwork, run_graph

CLASSES = 10
TOLERANCE = 1e-4
BARS = {"Macro evolved": 3.0, "Macro random": 2.0, "NAS-Bench-201 random": 1.5, "NAS-Bench-201 all": 3.0}
"""Speedups to reach; other populations have none."""
PLAN_SIZES = (100, 1_000, 10_000)
HEADERS = (
    *("population", "children", "batch", "recalibrated", "loop, children/s", "batched, children/s", "speedup", "bar"),
    *("spread", "asked", "executed", "launches", "merged", "peak, MB", "error", "loop's error"),
)
_PLANS = 21  # timed, of each population

PLAN_HEADERS = (
    "space",
    "children",
    "merge, ms",
    "with Python, ms",
    "per 1,000, ms",
    "tables, ms",
    "distinct",
    "merged",
)
MEMORY_HEADERS = ("bound, MB", "peak, MB", "images together", "threads", "computed again", "seconds", "same bits")


def macro() -> Space:
    return NASBenchMacro()


def nasbench201() -> Space:
    return NASBench201()


def mobilenet() -> Space:
    """Elastic: children are parts of the largest."""
    return MobileNetSpace(features=320)


def small_nasbench201() -> Space:
    return NASBench201(channels=8, cells=1)


@dataclass(frozen=True)
class Case:
    """A population to evaluate. `count` 0: every row of the space."""

    name: str
    space: Callable[[], Space]
    evolved: bool
    count: int
    batch: int
    pixels: int = 32

    def rows(self, space: Space) -> Rows:
        generator = np.random.default_rng(0)
        if self.count == 0:
            return space.all_rows()
        return evolve(space, self.count, generator) if self.evolved else space.sample(generator, self.count)


def evolve(space: Space, count: int, generator: np.random.Generator, steps: int = 400) -> Rows:
    """Population of regularized evolution (Real et al., AAAI 2019) towards a hidden row."""
    target = space.sample(generator, 1)[0]
    members = list(space.sample(generator, count))
    for _ in range(steps):
        drawn = generator.choice(count, min(16, count), replace=False)
        best = max(drawn, key=lambda i: int((members[i] == target).sum()))
        members = [*members[1:], space.mutate(generator, members[best])]
    return np.stack(members)


def make_network(space: Space, pixels: int, device: str = "cpu") -> SharedNetwork:
    """A shared network of random weights whose statistics come from a few children, so that logits stay in range.

    The same numbers on every device.
    """
    torch.manual_seed(0)
    network = make_supernet(space, CLASSES).to(memory_format=torch.channels_last)
    for module in network.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.momentum = None
    batch = make_images(16, pixels, seed=1)
    with torch.no_grad():
        for row in space.sample(np.random.default_rng(1), 24):
            network.train()(batch, row)
    return network.eval().to(device)


def make_images(count: int, pixels: int, seed: int) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(count, 3, pixels, pixels, generator=generator).to(memory_format=torch.channels_last)


class Loop:
    """The children one after the other."""

    def __init__(self, network: SharedNetwork, rows: Rows, images: Tensor, labels: Tensor, calibration: Tensor | None):
        self.network, self.images, self.labels, self.calibration = copy.deepcopy(network), images, labels, calibration
        self.graphs = [network.space.graph(row, CLASSES) for row in rows]
        self.norms = [self._norms(graph) for graph in self.graphs] if calibration is not None else []

    def _norms(self, graph: Graph) -> list[nn.BatchNorm2d]:
        keys = {self.network.key_of(node) for node in graph.nodes if node.op is not None and node.weights}
        modules = (module for key in sorted(keys) for module in self.network.ops[key].modules())
        return [module for module in modules if isinstance(module, nn.BatchNorm2d)]

    @torch.no_grad()
    def logits(self, child: int) -> Tensor:
        if self.calibration is not None:
            for norm in self.norms[child]:
                norm.reset_running_stats()
                norm.train()
            run_graph(self.graphs[child], self.network, self.calibration)
            for norm in self.norms[child]:
                norm.eval()
        return run_graph(self.graphs[child], self.network, self.images)

    def step(self) -> list[int]:
        children = range(len(self.graphs))
        correct = [(self.logits(child).argmax(-1) == self.labels).sum() for child in children]
        return torch.stack(correct).tolist()


class Batched:
    """All children at once."""

    def __init__(self, network: SharedNetwork, rows: Rows, images: Tensor, labels: Tensor, calibration: Tensor | None):
        self.planner, self.rows = ChildPlanner(network), rows
        self.images, self.labels, self.calibration = images, labels, calibration

    def plan(self) -> ChildPlan:
        return self.planner.plan(self.rows)

    def results(self, memory_bound: int = MEMORY_BOUND) -> ChildResults:
        return self.plan().evaluate(self.images, calibration=self.calibration, memory_bound=memory_bound)

    def step(self) -> list[int]:
        return self.results().correct(self.labels).tolist()


@dataclass(frozen=True)
class Errors:
    """Largest relative error of a child's logits, against the loop in float64."""

    batched: float
    loop: float


@dataclass(frozen=True)
class Result:
    case: Case
    calibrated: bool
    timings: dict[str, Timing]
    errors: Errors
    counts: dict[str, int]
    usage: dict[str, int]
    children: int
    resident: int = field(default=0)

    @property
    def launches(self) -> int:
        """Kernels that the evaluation calls, without the calibration: each operation once for each slice of images."""
        slices = -(-self.case.batch // self.usage["slice_images"])
        return self.counts["executed"] * slices + self.usage["computed_again"]

    def row(self) -> Row:
        counts = self.counts
        return (
            self.case.name,
            f"{self.children}",
            f"{self.case.batch}",
            "yes" if self.calibrated else "no",
            f"{self.children / self.timings['loop'].median:.1f}",
            f"{self.children / self.timings['batched'].median:.1f}",
            times(speedup(self.timings, "loop", "batched")),
            times(BARS[self.case.name]) if self.case.name in BARS else "–",
            percent(max(timing.spread for timing in self.timings.values())),
            f"{counts['asked']}",
            f"{counts['executed']}",
            f"{self.launches}",
            percent(1 - counts["executed"] / counts["asked"]),
            megabytes(self.usage["peak_bytes"]),
            f"{self.errors.batched:.0e}",
            f"{self.errors.loop:.0e}",
        )

    def to_json(self) -> dict[str, object]:
        case = {**asdict(self.case), "space": self.case.space.__name__}
        timings = {name: timing.to_json() for name, timing in self.timings.items()}
        rest = {
            "calibrated": self.calibrated,
            "errors": asdict(self.errors),
            "counts": self.counts,
            "usage": self.usage,
        }
        rest["launches"] = self.launches
        return {"case": case, "children": self.children, "timings": timings, "resident_bytes": self.resident, **rest}


def validate(case: Case, loop: Loop, batched: Batched, sampled: int) -> tuple[Errors, ChildResults]:
    """Errors of the children (at most `sampled` of them), after their accuracies are compared with the loop's."""
    results = batched.results()
    correct = results.correct(loop.labels).tolist()
    children = np.linspace(0, len(loop.graphs) - 1, min(sampled, len(loop.graphs))).astype(int)
    calibration = None if loop.calibration is None else loop.calibration.double()
    network = copy.deepcopy(batched.planner.network).double()
    exact = Loop(network, batched.rows[children], loop.images.double(), loop.labels, calibration)
    of_batched, of_loop = 0.0, 0.0
    for place, child in enumerate(children.tolist()):
        expected, looped = exact.logits(place), loop.logits(child)
        of_batched = max(of_batched, relative_error(results.logits_of(child), expected))
        of_loop = max(of_loop, relative_error(looped, expected))
        if correct[child] != int((looped.argmax(-1) == loop.labels).sum()):
            raise MismatchError(f"{case.name}: child {child} has another accuracy than in the loop")
    check_error(f"{case.name}: logits", of_batched, TOLERANCE)
    return Errors(of_batched, of_loop), results


def measure(case: Case, calibrated: bool, rounds: int, sampled: int) -> Result:
    space = case.space()
    network, rows = make_network(space, case.pixels), case.rows(space)
    images, labels = make_images(case.batch, case.pixels, seed=2), torch.arange(case.batch) % CLASSES
    calibration = make_images(case.batch, case.pixels, seed=3) if calibrated else None
    loop = Loop(network, rows, images, labels, calibration)
    batched = Batched(network, rows, images, labels, calibration)
    errors, results = validate(case, loop, batched, sampled)
    if len(rows) > 1_000:  # one round: a loop over all of them takes minutes
        timings = {"loop": _once(loop.step), "batched": _once(batched.step)}
    else:
        timings = compare({"loop": loop.step, "batched": batched.step}, rounds, warmup=1)
    return Result(
        case,
        calibrated,
        timings,
        errors,
        asdict(results.counts),
        asdict(results.usage),
        len(rows),
        process_memory().peak,
    )


def _once(step: Callable[[], object]) -> Timing:
    started = time.perf_counter()
    step()
    return Timing((time.perf_counter() - started,))


def quick_cases() -> list[Case]:
    return [
        Case("Macro evolved", macro, True, 64, 8),
        Case("Macro random", macro, False, 64, 8),
        Case("NAS-Bench-201 random", nasbench201, False, 16, 8),
    ]


def run_cases(options: argparse.Namespace) -> list[Result]:
    small = ("NAS-Bench-201 all", small_nasbench201, False)
    if options.quick:
        cases = quick_cases()
    else:
        cases = [
            *(Case("Macro evolved", macro, True, count, batch) for count, batch in ((64, 64), (64, 16), (16, 64))),
            *(Case("Macro random", macro, False, count, batch) for count, batch in ((64, 64), (64, 16), (16, 64))),
            *(Case("NAS-Bench-201 random", nasbench201, False, count, batch) for count, batch in ((64, 64), (64, 16))),
            Case("MobileNet evolved", mobilenet, True, 64, 16),
            Case("MobileNet random", mobilenet, False, 64, 16),
            Case(*small, 0, 16, pixels=16),
        ]
    results = []
    for i, (case, calibrated) in enumerate([(case, flag) for case in cases for flag in (False, True)], 1):
        arguments.progress(i, 2 * len(cases), f"timing {case.name}, {case.count or 'all'} children, batch {case.batch}")
        rounds = options.rounds or (1 if options.quick else 3)
        results.append(measure(case, calibrated, rounds, sampled=64 if options.quick else 256))
        print(section("Children per second", HEADERS, [results[-1].row()]), flush=True)
    print(section(f"Children per second, {options.threads} threads", HEADERS, [r.row() for r in results]), flush=True)
    return results


def run_planning(options: argparse.Namespace) -> list[dict[str, object]]:
    rows, results = [], []
    for name, make in (("Macro", macro), ("NAS-Bench-201", nasbench201), ("NAS-Bench-201, 3 cells", small_nasbench201)):
        space = make()
        planner = ChildPlanner(SharedNetwork(space, CLASSES))
        for count in PLAN_SIZES:
            population = space.sample(np.random.default_rng(0), count)
            template = planner.template()
            assert template is not None
            tables = (*planner.tables(), planner.network.in_channels, *template, torch.from_numpy(space.sizes))
            merge = _median(partial(_C.ChildPopulation.from_rows, *tables, torch.from_numpy(population)))
            whole = _median(partial(planner.plan, population))
            counts = planner.plan(population).counts
            tables_seconds = statistics.median(_tables(planner.plan(population)) for _ in range(_PLANS))
            results.append(
                {
                    "space": name,
                    "children": count,
                    "merge_seconds": merge,
                    "plan_seconds": whole,
                    "tables_seconds": tables_seconds,
                }
            )
            milliseconds = [f"{v * 1e3:.3f}" for v in (merge, whole, whole / count * 1000, tables_seconds)]
            rows.append((name, str(count), *milliseconds, str(counts.distinct), percent(counts.merged)))
    print(section("Indexing and planning alone", PLAN_HEADERS, rows), flush=True)
    return results


def _tables(plan: ChildPlan) -> float:
    """Seconds that it takes to write a new plan out as the op reads it."""
    return _once(plan.merged.tables).median


def _median(step: Callable[[], object]) -> float:
    return statistics.median(_once(step).median for _ in range(_PLANS))


def run_memory(options: argparse.Namespace) -> list[dict[str, object]]:
    """One population under ever smaller bounds."""
    space = small_nasbench201()
    rows = space.sample(np.random.default_rng(0), 200)
    network, images = make_network(space, 32), make_images(16, 32, seed=2)
    plan = ChildPlanner(network).plan(rows)
    expected = plan.evaluate(images)
    table, results = [], []
    for bound in (2**30, 2**24, 2**22, 2**20, 3 * 2**18, 9 * 2**16):
        started = time.perf_counter()
        found = plan.evaluate(images, memory_bound=bound)
        seconds = time.perf_counter() - started
        usage, same = found.usage, torch.equal(found.logits, expected.logits)
        results.append({"bound": bound, "seconds": seconds, "same_bits": same, **asdict(usage)})
        table.append(
            (
                megabytes(bound),
                megabytes(usage.peak_bytes),
                *(str(value) for value in (usage.slice_images, usage.threads, usage.computed_again)),
                f"{seconds:.2f}",
                "yes" if same else "no",
            )
        )
    print(section("Memory of values and scratch: 200 random NAS-Bench-201 cells", MEMORY_HEADERS, table), flush=True)
    return results


def parse(given: Sequence[str] | None = None) -> argparse.Namespace:
    parser = arguments.make_parser("child_eval", __doc__, cuda=True)
    arguments.add_rounds(parser)
    parser.add_argument("--dtypes", nargs="+", choices=list(DTYPES), metavar="DTYPE", help="with --device cuda")
    parser.add_argument(
        "--cases", nargs="+", metavar="CASE", help="with --device cuda: 'POPULATION, CHILDREN, BATCH' to time alone"
    )
    options = arguments.finish(parser, given)
    if options.device == "cpu":
        if options.dtypes or options.cases:
            parser.error("--dtypes and --cases go with --device cuda")
        return options
    from bench.child_eval_cuda import cases_for, label

    known = [label(case) for case in cases_for(options.quick)]
    for name in options.cases or ():
        if name not in known:
            parser.error(f"--cases: there is no {name!r}; expected some of {known}")
    options.dtypes = options.dtypes or list(DTYPES)
    return options


def main() -> None:
    options = parse()
    if options.device == "cuda":
        from bench import child_eval_cuda

        child_eval_cuda.run(options)
        return
    results: dict[str, object] = {"bench": "child_eval", "environment": arguments.print_environment(options)}
    results["planning"] = run_planning(options)
    results["memory"] = run_memory(options)
    results["cases"] = [result.to_json() for result in run_cases(options)]
    arguments.write_json(options.json, results)


if __name__ == "__main__":
    main()
