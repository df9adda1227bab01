"""Searches at several fidelities against full trainings, on published learning curves and accuracies.

    python -m bench.estimators fidelity --naap lc_naap440.npz --nb201 NAS-Bench-201.npz --json OUT.json --plot OUT.svg

NAAP-440 holds 440 networks with their accuracy after each of 90 epochs: full training is that of all, and the best of
them is to be found. A training goes on where it stopped, so an architecture costs its highest fidelity. NAS-Bench-201
holds validation accuracies after trainings of 12 and of 200 epochs, which are two trainings: both are paid for. Full
training is there that of so many random cells, and their best is to be reached, by a search with the same seed.
Neither file is part of nasfast.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any, ClassVar

import matplotlib

matplotlib.use("Agg")
import numpy as np
from matplotlib import pyplot as plt
from numpy.typing import NDArray

from bench import environment
from bench.arguments import IN_PERCENT, write_json
from bench.arrays import read_arrays
from bench.plots import save_figure
from bench.tables import section
from nasfast.config.objectives import FIDELITY
from nasfast.errors import NasfastError
from nasfast.estimators.base import Estimate, Estimator
from nasfast.estimators.table import TableEstimator
from nasfast.search.blackbox.problem import Problem
from nasfast.search.blackbox.search import BlackBoxSearch
from nasfast.search.history import Trial
from nasfast.spaces.base import Choices, Rows, Space
from nasfast.spaces.graph import Builder, Factory
from nasfast.spaces.nasbench201 import NASBench201
from nasfast.strategies.blackbox.multi_fidelity import MultiFidelity
from nasfast.strategies.registry import make_strategy
from nasfast.utils.progress import Progress

NAAP_RUNGS, NAAP_EPOCHS = (3, 10, 30, 90), 90
SHARE = 0.25
"""Of the cost of full training, which is the bar."""

_STEPS = 200  # between two looks at what was spent

Floats = NDArray[np.float64]


class Networks(Space):
    """The networks of a table, of which nothing is known but their number."""

    operations: ClassVar[dict[str, Factory]] = {}

    def __init__(self, count: int) -> None:
        super().__init__("networks", {"network": tuple(range(count))})

    def wire(self, choices: Choices, net: Builder) -> int:
        raise NasfastError("the networks of this table cannot be built")


class Curves:
    """Accuracies after each epoch, [networks, epochs]."""

    name = "curves"

    def __init__(self, accuracy: Floats) -> None:
        self.accuracy = accuracy

    def estimate(self, rows: Rows, fidelity: int | None = None) -> list[Estimate]:
        """See :class:`nasfast.estimators.Estimator`."""
        last = (fidelity or self.accuracy.shape[1]) - 1
        return [Estimate(float(score)) for score in self.accuracy[rows[:, 0], last]]


def trace(trials: Sequence[Trial], last: int, goes_on: bool) -> tuple[Floats, Floats]:
    """Epochs spent after each trial, and the best score of the highest fidelity by then (-inf before there is one).

    Args:
        goes_on: A training goes on where the shorter one stopped; else each fidelity is a training of its own.
    """
    paid: dict[tuple[int, ...], set[int]] = {}
    spent, best = 0, -np.inf
    costs, scores = [], []
    for trial in trials:
        fidelity = int(trial.metrics.get(FIDELITY, last))
        before = paid.setdefault(trial.row, set())
        if fidelity not in before:
            spent += fidelity - max(before, default=0) if goes_on else fidelity
            before.add(fidelity)
        if fidelity == last:
            best = max(best, trial.score)
        costs.append(float(spent))
        scores.append(best)
    return np.array(costs), np.array(scores)


def search(
    space: Space, estimator: Estimator, name: str, rungs: tuple[int, ...], settings: dict[str, int], seed: int,
    most: float, goes_on: bool,
) -> tuple[Floats, Floats]:  # fmt: skip
    """The trace of one search, until it has spent ``most`` epochs or proposes nothing new."""
    strategy = make_strategy(name, settings)
    assert isinstance(strategy, MultiFidelity)
    strategy.rungs = rungs
    strategy.init(space, seed)
    found = BlackBoxSearch(Problem(space, estimator, costs=False), strategy, sys.maxsize)
    costs, scores = trace([], rungs[-1], goes_on)
    while not len(costs) or costs[-1] < most:
        for _ in range(_STEPS):
            found.step()
        before = costs
        costs, scores = trace(found.trials, rungs[-1], goes_on)
        if len(before) and costs[-1] == before[-1]:  # it proposes nothing new any more
            break
    return costs, scores


def at(costs: Floats, scores: Floats, spent: float) -> float:
    """The best score when no more than ``spent`` epochs are spent; -inf where there is none yet."""
    index = int(np.searchsorted(costs, spent, side="right")) - 1
    return float(scores[index]) if index >= 0 else -np.inf


def full_training(scores: Floats, epochs: int) -> tuple[Floats, Floats]:
    """The trace of trainings in full, one after the other."""
    return epochs * np.arange(1.0, len(scores) + 1), np.maximum.accumulate(scores)


def run_naap(path: Path, seeds: int) -> dict[str, Any]:
    accuracy = read_arrays(path, ["test_acc"])["test_acc"].astype(np.float64)
    space, estimator = Networks(len(accuracy)), Curves(accuracy)
    whole = len(accuracy) * NAAP_EPOCHS
    traces: dict[str, list[tuple[Floats, Floats]]] = {"full training": []}
    with Progress().stage("NAAP-440", seeds * 3, unit="search") as stage:
        for seed in range(seeds):
            order = np.random.default_rng(seed).permutation(len(accuracy))
            traces["full training"].append(full_training(accuracy[order, -1], NAAP_EPOCHS))
            for name in ("successive-halving", "asha", "hyperband"):
                settings = {"first": 81} if name == "successive-halving" else {}
                found = search(space, estimator, name, NAAP_RUNGS, settings, seed, SHARE * whole, True)
                traces.setdefault(name, []).append(found)
                stage.advance()
    goals = np.full(seeds, accuracy[:, -1].max())
    return summary(traces, goals, whole) | {"rungs": NAAP_RUNGS, "networks": len(accuracy)}


def run_nb201(path: Path, seeds: int, cells: int) -> dict[str, Any]:
    space = NASBench201()
    estimator = TableEstimator(path, space)
    rungs = tuple(estimator.fidelities)
    whole = cells * rungs[-1]
    settings: dict[str, dict[str, int]] = {
        "successive-halving": {"first": 64, "reduction": 8},
        "asha": {"reduction": 8},
        "hyperband": {"reduction": 8},
        "bohb": {"reduction": 8},
    }
    traces: dict[str, list[tuple[Floats, Floats]]] = {"full training": [], "full training, TPE": []}
    goals = []
    with Progress().stage("NAS-Bench-201", seeds * (len(settings) + 1), unit="search") as stage:
        for seed in range(seeds):
            rows = space.all_rows()[np.random.default_rng(seed).permutation(space.count())[:cells]]
            scores = np.array([estimate.score for estimate in estimator.estimate(rows)])
            goals.append(scores.max())
            traces["full training"].append(full_training(scores, rungs[-1]))
            tpe = search(space, estimator, "bohb", rungs[-1:], {}, seed, float(whole), False)
            traces["full training, TPE"].append(tpe)
            stage.advance()
            for name, given in settings.items():
                found = search(space, estimator, name, rungs, given, seed, SHARE * whole, False)
                traces.setdefault(name, []).append(found)
                stage.advance()
    return summary(traces, np.array(goals), whole) | {"rungs": rungs, "networks": cells}


def summary(traces: dict[str, list[tuple[Floats, Floats]]], goals: Floats, whole: int) -> dict[str, Any]:
    """What each has found when it has spent a share of the cost of full training; accuracies in percent."""
    goals = 100 * goals
    shares = [0.025, 0.05, 0.1, 0.15, 0.2, SHARE, 0.5, 1.0]
    found: dict[str, Any] = {}
    for name, runs in traces.items():
        ends = max(costs[-1] for costs, _ in runs)
        reached = np.array(
            [
                [100 * at(*run, share * whole) for run in runs]
                for share in shares
                if share <= SHARE or share * whole <= ends
            ]
        )
        found[name] = {
            "share of full training": shares[: len(reached)],
            "mean": [_mean(row) for row in reached],
            "spread": [float(np.std(row[np.isfinite(row)])) if np.isfinite(row).any() else None for row in reached],
            "reaches": [float((row >= goals - 1e-9).mean()) for row in reached],
        }
    return {"epochs of full training": whole, "goal": float(goals.mean()), "methods": found}


def _mean(row: Floats) -> float | None:
    return float(row.mean()) if np.isfinite(row).all() else None


def misses(results: dict[str, dict[str, Any]]) -> list[str]:
    """Of asha and bohb: where its mean at a quarter of the cost is below the goal's."""
    found = []
    for label, result in results.items():
        for name in ("asha", "bohb"):
            if name in result["methods"]:
                method = result["methods"][name]
                mean = method["mean"][method["share of full training"].index(SHARE)]
                if mean is None or mean < result["goal"] - 0.005:
                    found.append(f"{name} on {label}")
    return found


def report(label: str, result: dict[str, Any]) -> None:
    rows = []
    for name, method in result["methods"].items():
        for share in (0.1, SHARE, 1.0):
            if share in method["share of full training"]:
                i = method["share of full training"].index(share)
                mean, spread = method["mean"][i], method["spread"][i]
                shown = "-" if mean is None else f"{mean:.2f} ± {spread:.2f}"
                rows.append((name, f"{share:.0%}", shown, f"{method['reaches'][i]:.0%}"))
    title = (
        f"{label}: full training takes {result['epochs of full training']:,} epochs and finds {result['goal']:.2f} %"
    )
    print(section(title, ("search", "of that cost", "best, %", "reaches it"), rows), flush=True)


def draw(path: Path, results: dict[str, dict[str, Any]]) -> None:
    figure, axes = plt.subplots(1, len(results), figsize=(5.2 * len(results), 3.6), squeeze=False)
    for axis, (label, result) in zip(axes[0], results.items(), strict=True):
        for name, method in result["methods"].items():
            mean = [np.nan if value is None else value for value in method["mean"]]
            axis.plot(method["share of full training"], mean, marker="o", ms=4, label=name)
        axis.axhline(result["goal"], color="#333333", lw=1, ls="--", label="best by full training")
        axis.axvline(SHARE, color="#999999", lw=1, ls=":")
        axis.set_xscale("log")
        axis.set_xlabel("epochs, of those of full training")
        axis.set_ylabel("best accuracy, %")
        axis.set_title(label, fontsize=10)
        axis.grid(True, alpha=0.3)
        axis.legend(fontsize=7)
    figure.tight_layout()
    save_figure(figure, path)


def main(arguments: list[str]) -> int:
    parser = argparse.ArgumentParser(prog="python -m bench.estimators fidelity", description=__doc__.split("\n")[0])
    parser.add_argument("--naap", type=Path, metavar="FILE", help="NAAP-440, .npz")
    parser.add_argument("--nb201", type=Path, metavar="FILE", help="table of NAS-Bench-201, .npz")
    parser.add_argument("--seeds", type=int, default=50)
    parser.add_argument("--cells", type=int, default=100, help="of NAS-Bench-201 that full training trains")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write every number to FILE")
    parser.add_argument("--plot", type=Path, metavar="FILE", default=Path("runs/bench/fidelity.svg"))
    options = parser.parse_args(arguments)
    if options.naap is None and options.nb201 is None:
        parser.error("give --naap FILE, --nb201 FILE or both")
    started, results = time.monotonic(), {}
    try:
        if options.naap is not None:
            results["NAAP-440"] = run_naap(options.naap, options.seeds)
        if options.nb201 is not None:
            results["NAS-Bench-201"] = run_nb201(options.nb201, options.seeds, options.cells)
    except NasfastError as error:
        print(f"bench.estimators fidelity: {error}", file=sys.stderr)
        return 1
    for label, result in results.items():
        report(label, result)
    draw(options.plot, results)
    seconds = round(time.monotonic() - started)
    content = {"environment": environment.describe("cpu", 1), "seconds": seconds, "seeds": options.seeds}
    write_json(options.json, IN_PERCENT | content | {"results": results})
    missed = misses(results)
    if missed:
        print(f"bench.estimators fidelity: not at a quarter of the cost: {', '.join(missed)}", file=sys.stderr)
    return int(all(any(name.endswith(f" on {label}") for name in missed) for label in results))
