"""The first layer of networks on tables, and a training step of such a network: beside plain PyTorch.

The layer takes raw numbers to piecewise-linear encodings, a scale for each member and column, and the width of a linear
layer. Ours has encoded the table once, and a batch is rows of it. Plain PyTorch encodes each batch, multiplies column
by column, and then applies the scales of all members in one product, which is several times less work than members one
by one. "forward" keeps nothing for a backward; "with backward" gives the gradients of weights and scales. A training
step is that layer, two hidden layers that the members share, a head for each member, the mean of their losses, and
AdamW. Before anything is timed, results and gradients of both are compared with float64.

With --compile, what torch.compile makes of plain PyTorch is timed beside ours in a process of its own.
"""

from __future__ import annotations

import argparse
import itertools
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from typing import Any

import torch
from torch import Tensor, nn

from bench import arguments
from bench.child import COLD_COMPILER, run_child
from bench.tables import Row, milliseconds, percent, section, times
from bench.timing import Step, Timing, compare, speedup
from bench.validate import check_against_exact
from nasfast.kernels.table import TableLayout, table_embedding

WAYS = ("plain", "ours")
MEASURES = ("forward", "with backward", "training step")
HEADERS = ("rows", "columns", "", "plain, ms", "ours, ms", "speedup", "spread", "error")
COMPILE_HEADERS = ("rows", "columns", "", "compiled, ms", "ours, ms", "speedup", "compiling, s")
BATCHES = 16


@dataclass(frozen=True)
class Case:
    rows: int
    columns: int
    bins: int = 48
    members: int = 16
    width: int = 128
    batch: int = 256

    def label(self) -> Row:
        return (f"{self.rows:,}", str(self.columns))


@dataclass(frozen=True)
class Table:
    """Numbers, the edges of each column's bins (quantiles), and a target."""

    numbers: Tensor
    edges: Tensor
    target: Tensor

    @classmethod
    def make(cls, case: Case) -> Table:
        torch.manual_seed(0)
        numbers = torch.randn(case.rows, case.columns)
        share = torch.linspace(0, 1, case.bins + 1)
        return cls(numbers, torch.quantile(numbers[:5000], share, dim=0).T.contiguous(), torch.randn(case.rows, 1))

    def encoded(self) -> tuple[Tensor, Tensor]:
        """Bins and fractions, as the kernels read them; what is beyond the edges stays at them."""
        by_column = self.numbers.T.contiguous()
        bins = torch.searchsorted(self.edges[:, 1:-1].contiguous(), by_column, right=True)
        left, right = self.edges.gather(1, bins), self.edges.gather(1, bins + 1)
        fractions = ((by_column - left) / (right - left)).clamp(0, 1)
        return bins.T.short().contiguous(), fractions.T.contiguous()


class PlainLayer(nn.Module):
    """Raw numbers [batch, columns] to [members, batch, width]."""

    def __init__(self, table: Table, weights: Tensor, scales: Tensor) -> None:
        super().__init__()
        self.weights, self.scales = nn.Parameter(weights.clone()), nn.Parameter(scales.clone())
        self.slope: Tensor
        self.shift: Tensor
        slope = 1 / table.edges.diff(dim=1).unsqueeze(1)
        self.register_buffer("slope", slope)
        self.register_buffer("shift", -table.edges[:, None, :-1] * slope)

    def forward(self, numbers: Tensor) -> Tensor:
        encoding = torch.addcmul(self.shift, numbers.T.unsqueeze(-1), self.slope).clamp_(0, 1)
        values = torch.bmm(encoding, self.weights)
        return (self.scales @ values.flatten(1)).view(len(self.scales), *values.shape[1:])


class OurLayer(nn.Module):
    """Rows of the table [batch] to [batch, members, width]."""

    def __init__(self, table: Table, weights: Tensor, scales: Tensor) -> None:
        super().__init__()
        columns, bins, _ = weights.shape
        self.weights, self.scales = nn.Parameter(weights.clone()), nn.Parameter(scales.clone())
        self.codes = table.encoded()
        self.layout = TableLayout((bins,) * columns, (0,) * columns)

    def forward(self, rows: Tensor) -> Tensor:
        return table_embedding(
            self.weights.flatten(0, 1)[None], *self.codes, self.scales[None], self.layout, rows
        ).squeeze(0)


class Network(nn.Module):
    """Batch and members in either order, as the first layer has them; predictions [batch, members]."""

    def __init__(self, first: nn.Module, case: Case, members_first: bool) -> None:
        super().__init__()
        self.first, self.heads = first, nn.Parameter(torch.randn(case.members, case.width) / case.width**0.5)
        self.hidden = nn.ModuleList(nn.Linear(case.width, case.width) for _ in range(2))
        self.members_first = members_first

    def forward(self, x: Tensor) -> Tensor:
        x = self.first(x).relu()
        for layer in self.hidden:
            x = layer(x).relu()
        if self.members_first:
            return torch.linalg.vecdot(x, self.heads.unsqueeze(1)).T
        return torch.linalg.vecdot(x, self.heads)  # several times faster than a batched product with one column


class Way:
    """One way of computing layer and network; `compiled` through torch.compile."""

    def __init__(self, case: Case, table: Table, plain: bool, dtype: torch.dtype = torch.float32) -> None:
        torch.manual_seed(1)
        weights = torch.randn(case.columns, case.bins, case.width) / case.columns**0.5
        scales = torch.randn(case.members, case.columns)
        layer = (PlainLayer if plain else OurLayer)(table, weights, scales)
        self.plain, self.layer = plain, layer
        self.network = Network(layer, case, plain).to(dtype)
        self.trained = list(self.network.parameters())
        self.optimizer = torch.optim.AdamW(self.trained, fused=True)
        self.numbers, self.target = table.numbers.to(dtype), table.target.to(dtype)
        self.grad = torch.randn(case.batch, case.members, case.width).to(dtype)
        if plain:
            self.grad = self.grad.transpose(0, 1).contiguous()
        self.batches = _batches(case)
        self.run_layer: Callable[[Tensor], Tensor] = layer
        self.run_network: Callable[[Tensor], Tensor] = self.network

    def compile(self) -> None:
        self.run_layer, self.run_network = (
            torch.compile(module, dynamic=False) for module in (self.layer, self.network)
        )

    def read(self, rows: Tensor) -> Tensor:
        return self.numbers[rows] if self.plain else rows

    @torch.no_grad()
    def forward(self) -> Tensor:
        return self.run_layer(self.read(next(self.batches)))

    def backward(self) -> list[Tensor]:
        """Output and the gradients of weights and scales."""
        out = self.run_layer(self.read(next(self.batches)))
        return [out, *torch.autograd.grad(out, [self.layer.weights, self.layer.scales], self.grad)]

    def loss(self) -> Tensor:
        rows = next(self.batches)
        return (self.run_network(self.read(rows)) - self.target[rows]).square().mean()

    def train(self) -> Tensor:
        self.optimizer.zero_grad()
        loss = self.loss()
        loss.backward()
        self.optimizer.step()
        return loss

    def results(self) -> list[Tensor]:
        """What both ways must agree on: the layer with its gradients, the network's loss and gradients."""
        out, *grads = self.backward()
        loss = self.loss()
        out = out.transpose(0, 1) if self.plain else out
        return [out, *grads, loss, *torch.autograd.grad(loss, self.trained)]

    def steps(self) -> dict[str, Step]:
        return dict(zip(MEASURES, (self.forward, self.backward, self.train), strict=True))


def _batches(case: Case) -> Iterator[Tensor]:
    generator = torch.Generator().manual_seed(2)
    return itertools.cycle([torch.randint(case.rows, (case.batch,), generator=generator) for _ in range(BATCHES)])


@dataclass(frozen=True)
class Result:
    case: Case
    error: float
    timings: dict[str, dict[str, Timing]]

    def table_rows(self) -> list[Row]:
        return [
            (
                *self.case.label(),
                measure,
                *(milliseconds(found[way].median) for way in WAYS),
                times(speedup(found, "plain", "ours")),
                percent(max(timing.spread for timing in found.values())),
                f"{self.error:.1e}",
            )
            for measure, found in self.timings.items()
        ]

    def to_json(self) -> dict[str, object]:
        timings = {
            measure: {way: timing.to_json() for way, timing in found.items()} for measure, found in self.timings.items()
        }
        return {"case": asdict(self.case), "error": self.error, "timings": timings}


def validate(case: Case, table: Table) -> float:
    """The largest relative error of our results against plain PyTorch in float64."""
    exact = Way(case, Table(*(t.double() for t in (table.numbers, table.edges, table.target))), True, torch.float64)
    results = {way: Way(case, table, way == "plain").results() for way in WAYS}
    return check_against_exact(str(case), results, exact.results(), ("plain",))


def measure(case: Case, rounds: int) -> Result:
    table = Table.make(case)
    error = validate(case, table)
    ways = {way: Way(case, table, way == "plain").steps() for way in WAYS}
    timings = {name: compare({way: ways[way][name] for way in WAYS}, rounds) for name in MEASURES}
    return Result(case, error, timings)


def time_compiled(case: dict[str, int], threads: int, rounds: int) -> dict[str, dict[str, float]]:
    """Runs in a process of its own: for each measure, seconds of compiled plain PyTorch, of ours, and of compiling."""
    torch.set_num_threads(threads)
    made = Case(**case)
    table = Table.make(made)
    plain, ours = Way(made, table, True), Way(made, table, False)
    plain.compile()
    found = {}
    for name, step in plain.steps().items():
        started = time.perf_counter()
        step()
        first = time.perf_counter() - started
        timings = compare({"compiled": step, "ours": ours.steps()[name]}, rounds)
        found[name] = {way: timing.median for way, timing in timings.items()} | {"first": first}
    return found


def run_compiled(options: argparse.Namespace, cases: list[Case], rounds: int) -> list[dict[str, Any]] | None:
    if options.compile_limit is None:
        return None
    rows, results = [], []
    for i, case in enumerate(cases, 1):
        arguments.progress(i, len(cases), f"compiling {case}, at most {options.compile_limit:.0f} s")
        call = {"case": asdict(case), "threads": options.threads, "rounds": rounds}
        found = run_child("bench.table:time_compiled", call, options.compile_limit, COLD_COMPILER)
        results.append({"case": asdict(case), "seconds": found})
        for name, seconds in (found or {}).items():
            ratio = times(seconds["compiled"] / seconds["ours"])
            shown = (milliseconds(seconds["compiled"]), milliseconds(seconds["ours"]), ratio, f"{seconds['first']:.0f}")
            rows.append((*case.label(), name, *shown))
        if found is None:
            rows.append((*case.label(), "not within the limit", "-", "-", "-", "-"))
    print(section("torch.compile of plain PyTorch, ours beside it", COMPILE_HEADERS, rows), flush=True)
    return results


def make_cases(quick: bool) -> list[Case]:
    if quick:
        return [Case(5_000, columns) for columns in (10, 100)]
    return [Case(rows, columns) for rows in (5_000, 100_000) for columns in (10, 30, 100)]


def main() -> None:
    options = arguments.parse("table", __doc__, plot=False)
    results: dict[str, object] = {"bench": "table", "environment": arguments.print_environment(options)}
    cases, rounds = make_cases(options.quick), 3 if options.quick else 9
    measured = []
    for i, case in enumerate(cases, 1):
        arguments.progress(i, len(cases), f"timing {case}")
        measured.append(measure(case, rounds))
    sizes = f"{cases[0].bins} bins, {cases[0].members} members, width {cases[0].width}, batches of {cases[0].batch}"
    title = f"Networks on tables, {sizes}, {options.threads} threads (checked before timing)"
    print(section(title, HEADERS, [row for result in measured for row in result.table_rows()]), flush=True)
    results["cases"] = [result.to_json() for result in measured]
    results["compiled"] = run_compiled(options, cases, rounds)
    arguments.write_json(options.json, results)


if __name__ == "__main__":
    main()
