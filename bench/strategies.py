"""How good an architecture each strategy finds in how many evaluations, on published tables.

    python -m bench.strategies --nb201 FILE.npz --macro FILE.json --json OUT.json --plot OUT.svg

The tables are not part of nasfast. Before anything is searched, the space is compared with them: the classes of equal
functions, parameters and FLOPs. Every search sees validation accuracy (NAS-Bench-Macro has none: mean test accuracy);
what is reported is the test accuracy of the best architecture by what the search saw, mean and spread over the seeds.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from pathlib import Path
from typing import Any

import matplotlib

matplotlib.use("Agg")
import numpy as np
import torch
from matplotlib import pyplot as plt
from numpy.typing import NDArray

from bench import environment
from bench.arguments import IN_PERCENT, progress, write_json
from bench.plots import save_figure
from bench.tables import section
from nasfast.config.objectives import Objective
from nasfast.errors import NasfastError
from nasfast.estimators.table import TableEstimator
from nasfast.search.blackbox.problem import Problem
from nasfast.search.blackbox.search import BlackBoxSearch
from nasfast.spaces.base import Space
from nasfast.spaces.nasbench201 import TASKS, NASBench201
from nasfast.spaces.nasbench_macro import NASBenchMacro
from nasfast.spaces.population import non_dominated
from nasfast.strategies.blackbox.bayesian import Bayesian
from nasfast.strategies.blackbox.policy_gradient import PolicyGradient
from nasfast.strategies.registry import MORPHISM, STRATEGIES, make_strategy

# Dong, Yang, ICLR 2020, table 5: CIFAR-10 test accuracy after a search of 12,000 s, which is about 100 evaluations by
# validation accuracy after 12 epochs. Su et al., CVPR 2021: the best of NAS-Bench-Macro.
PUBLISHED = {
    "NAS-Bench-201": {"random": 93.70, "REINFORCE": 93.85, "regularized evolution": 93.92, "optimum": 94.37},
    "NAS-Bench-Macro": {"optimum (22212220)": 93.13},
}
MUST_BEAT_RANDOM = ("regularized-evolution", "reinforce")
FROM = 100  # evaluations, from which on they must
SHOWN = (50, 100, 150, 200, 300, 500, 1000)
STEP = 10

Curves = NDArray[np.float64]  # [seeds, marks]: test accuracy of the best so far


def search_curves(space: Space, table: TableEstimator, name: str, seeds: int, evaluations: int, label: str) -> Curves:
    """Test accuracy (%) of the best architecture by score after STEP, 2 STEP ... evaluations: [seeds, marks]."""
    curves = []
    for seed in range(seeds):
        strategy = make_strategy(name).init(space, seed)
        # What learns in batches is asked for a batch at a time; a policy proposes the same as one by one.
        batch = strategy.batch if isinstance(strategy, (Bayesian, PolicyGradient)) else 1
        search = BlackBoxSearch(Problem(space, table, costs=False), strategy, evaluations, batch)
        while not search.done():
            search.step()
        scores = np.array([trial.score for trial in search.trials])
        tests = np.array([trial.metrics["test_accuracy"] for trial in search.trials])
        curves.append([100 * tests[np.argmax(scores[:mark])] for mark in marks(evaluations)])
        progress(seed + 1, seeds, f"{label}, {name}")
    return np.array(curves)


def marks(evaluations: int) -> list[int]:
    """Numbers of evaluations at which the best so far is read."""
    return list(range(STEP, evaluations + 1, STEP))


def hypervolumes(space: Space, table: TableEstimator, name: str, seeds: int, evaluations: int) -> list[float]:
    """Area that the front of a search dominates, score against FLOPs, as a share of that of the whole table's front."""
    objectives = (Objective("score"), Objective("flops", False))
    flops = [space.cost(row).flops for row in space.all_rows()]
    worst = -float(max(flops))
    scores = [estimate.score for estimate in table.estimate(space.all_rows())]
    whole = hypervolume(np.stack([scores, -np.array(flops, float)], 1), min(scores), worst)
    areas = []
    for seed in range(seeds):
        strategy = make_strategy(name).init(space, seed)
        search = BlackBoxSearch(Problem(space, table, objectives), strategy, evaluations)
        while not search.done():
            search.step()
        areas.append(hypervolume(search.problem.values(search.trials), min(scores), worst) / whole)
        progress(seed + 1, seeds, f"front, {name}")
    return areas


def hypervolume(values: NDArray[np.float64], low: float, other_low: float) -> float:
    """Area dominated by points [K, 2] (larger is better) above a corner."""
    front = values[non_dominated(values)]
    front = front[np.argsort(-front[:, 0])]
    area, reached = 0.0, other_low
    for first, second in front.tolist():
        area += max(0.0, first - low) * max(0.0, second - reached)
        reached = max(reached, second)
    return area


def check_nasbench201(path: Path, space: NASBench201) -> dict[str, Any]:
    """Compare the space with the table: all cells' strings and classes, and parameters and FLOPs of every one."""
    with np.load(path, allow_pickle=False) as file:
        table = {name: file[name] for name in file.files}
    if not {"arch_str", "iso_class", "flops_m_cifar10", "params_m_cifar10"} <= set(table):
        return {"checked": "no classes, FLOPs and parameters in the table"}
    rows = [space.encode(text) for text in table["arch_str"].tolist()]
    forms = [space.canonical(row) for row in rows]
    classes = table["iso_class"].tolist()
    joint = len(set(zip(forms, classes, strict=True)))
    wrong = 0
    for data, (count, size) in TASKS.items():
        for i, row in enumerate(rows):
            cost = space.cost(row, count, size=size)
            found = (round(table[f"params_m_{data}"][i] * 1e6), round(table[f"flops_m_{data}"][i] * 1e6))
            wrong += (cost.params, cost.flops) != found
    keeps_zero = frozenset({"avg_pool_3x3"})  # a convolution of zero gives its normalisation's shift
    same = joint == len(set(forms)) == len(set(classes))
    return {
        "cells": len(rows),
        "classes": len(set(forms)),
        "classes are the table's": same,
        "functions by nasfast's own form": len({space.cell_graph(row).form(keeps_zero) for row in rows}),
        "cells whose parameters or FLOPs differ": wrong,
    }


def check_macro(table: TableEstimator, path: Path, space: NASBenchMacro) -> dict[str, Any]:
    """Compare the space with the table: distinct networks, parameters and FLOPs."""
    archs = json.loads(path.read_text(encoding="utf-8"))["archs"]
    wrong = 0
    for text, row in archs.items():
        cost = space.cost(space.encode(text))
        wrong += (cost.params, cost.flops) != tuple(row[-2:])
    distinct = len({space.canonical(space.encode(text)) for text in archs})
    return {"networks": len(table), "distinct": distinct, "networks whose parameters or FLOPs differ": wrong}


def beats_random(curves: dict[str, Curves], name: str) -> dict[str, float]:
    """Smallest lead of the mean over random search's at FROM evaluations and more, and where it is."""
    first = FROM // STEP - 1
    lead = (curves[name].mean(0) - curves["random"].mean(0))[first:]
    error = np.sqrt(curves[name].var(0) / len(curves[name]) + curves["random"].var(0) / len(curves["random"]))[first:]
    at = int(np.argmin(lead))
    return {
        "lead": float(lead[at]),
        "evaluations": (first + at + 1) * STEP,
        "standard_errors": float(lead[at] / max(error[at], 1e-9)),
    }


def curve_rows(curves: dict[str, Curves], shown: list[int]) -> list[list[str]]:
    """Mean and standard deviation over the seeds, as texts."""
    return [
        [name] + [f"{found[:, m // STEP - 1].mean():.2f} ± {found[:, m // STEP - 1].std():.2f}" for m in shown]
        for name, found in curves.items()
    ]


def draw(path: Path, results: dict[str, dict[str, Curves]], evaluations: int, seeds: int) -> None:
    """One panel per benchmark: means over evaluations, a band of one standard deviation for three of them."""
    figure, axes = plt.subplots(1, len(results), figsize=(6.4 * len(results), 4.4), squeeze=False)
    colours = plt.get_cmap("tab10")
    for axis, (label, curves) in zip(axes[0], results.items(), strict=True):
        for i, (name, found) in enumerate(curves.items()):
            mean, spread, colour = found.mean(0), found.std(0), "0.45" if name == "random" else colours(i)
            axis.plot(marks(evaluations), mean, color=colour, label=name, lw=2 if name == "random" else 1.4)
            if name == "random" or name in MUST_BEAT_RANDOM:
                axis.fill_between(marks(evaluations), mean - spread, mean + spread, color=colour, alpha=0.12, lw=0)
        for name, value in PUBLISHED[label].items():
            axis.axhline(value, color="0.2", lw=0.7, ls=":")
            axis.annotate(f"published: {name} {value:.2f}", (21, value), fontsize=6.5, va="bottom")
        everything = np.concatenate([found.mean(0)[FROM // STEP - 1 :] for found in curves.values()])
        axis.set_ylim(everything.min() - 0.35, max(PUBLISHED[label].values()) + 0.12)
        axis.set_xscale("log")
        axis.set_xlim(20, evaluations)
        ticks = [t for t in (20, 50, *SHOWN[1:]) if t <= evaluations]
        axis.set_xticks(ticks, [str(t) for t in ticks])
        axis.minorticks_off()
        axis.set_title(label, fontsize=10)
        axis.set_xlabel("evaluations")
        axis.grid(True, alpha=0.3)
    axes[0][0].set_ylabel(f"test accuracy of the best so far, %, mean of {seeds} seeds")
    axes[0][-1].legend(fontsize=7.5, loc="lower right")
    figure.tight_layout()
    save_figure(figure, path)


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m bench.strategies", description=__doc__.split("\n")[0])
    parser.add_argument("--nb201", type=Path, metavar="FILE", help="table of NAS-Bench-201, .npz")
    parser.add_argument("--macro", type=Path, metavar="FILE", help="table of NAS-Bench-Macro, .json")
    parser.add_argument("--seeds", type=int, default=50)
    parser.add_argument("--evaluations", type=int, default=500, help="of each search, a multiple of 10 (default 500)")
    names = [name for name in STRATEGIES if name not in MORPHISM]  # a table has no weights to hand down
    parser.add_argument("--strategies", nargs="+", choices=names, default=names, metavar="NAME")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write every number to FILE")
    parser.add_argument(
        "--plot", type=Path, metavar="FILE", default=Path("runs/bench/strategies.svg"), help="svg or png"
    )
    options = parser.parse_args()
    if options.nb201 is None and options.macro is None:
        parser.error("give --nb201 FILE, --macro FILE or both")
    if options.evaluations < FROM or options.evaluations % STEP or options.seeds < 1:
        parser.error(f"--evaluations must be a multiple of {STEP}, at least {FROM}; --seeds at least 1")
    options.strategies = ["random", *(name for name in options.strategies if name != "random")]
    return options


def main() -> int:
    options = parse()
    torch.set_num_threads(1)
    started = time.monotonic()
    facts = environment.describe("cpu", 1)
    try:
        checks, tables = _open(options)
    except NasfastError as error:
        print(f"bench.strategies: {error}", file=sys.stderr)
        return 1
    for label, found in checks.items():
        print(
            section(f"{label}: the space against the table", ("", ""), [(k, str(v)) for k, v in found.items()]),
            flush=True,
        )
    results = {
        label: {
            name: search_curves(space, table, name, options.seeds, options.evaluations, label)
            for name in options.strategies
        }
        for label, (space, table) in tables.items()
    }
    shown = [mark for mark in SHOWN if mark <= options.evaluations]
    verdicts: dict[str, dict[str, dict[str, float]]] = {}
    for label, curves in results.items():
        title = f"{label}: test accuracy in %, mean ± standard deviation over {options.seeds} seeds"
        print(section(title, ("strategy", *(f"{mark} evaluations" for mark in shown)), curve_rows(curves, shown)))
        print(section("published", ("", "%"), [(k, f"{v:.2f}") for k, v in PUBLISHED[label].items()]))
        verdicts[label] = {name: beats_random(curves, name) for name in curves if name != "random"}
        rows = [
            (name, f"{v['lead']:+.3f}", str(v["evaluations"]), f"{v['standard_errors']:+.1f}")
            for name, v in verdicts[label].items()
        ]
        print(
            section(
                f"smallest lead over random from {FROM} evaluations up", ("", "points", "at", "standard errors"), rows
            )
        )
    fronts = _fronts(options, tables)
    draw(options.plot, results, options.evaluations, options.seeds)
    write_json(
        options.json,
        IN_PERCENT
        | {
            "environment": facts,
            "seconds": round(time.monotonic() - started),
            "seeds": options.seeds,
            "evaluations": marks(options.evaluations),
            "settings": {name: make_strategy(name).settings() for name in options.strategies},
            "checks": checks,
            "published": {label: PUBLISHED[label] for label in results},
            "test_accuracy": {
                label: {
                    name: {"mean": _rounded(found.mean(0)), "std": _rounded(found.std(0))}
                    for name, found in curves.items()
                }
                for label, curves in results.items()
            },
            "smallest_lead_over_random": verdicts,
            "hypervolume": fronts,
        },
    )
    losers = [
        f"{name} on {label}" for label, found in verdicts.items() for name in MUST_BEAT_RANDOM
        if name in found and found[name]["lead"] <= 0
    ]  # fmt: skip
    if losers:
        print(f"bench.strategies: does not beat random search everywhere: {', '.join(losers)}", file=sys.stderr)
    return 1 if losers else 0


def _open(options: argparse.Namespace) -> tuple[dict[str, dict[str, Any]], dict[str, tuple[Space, TableEstimator]]]:
    """What the comparison with each table gives, and the spaces with their tables."""
    checks: dict[str, dict[str, Any]] = {}
    tables: dict[str, tuple[Space, TableEstimator]] = {}
    if options.nb201 is not None:
        cells = NASBench201()
        tables["NAS-Bench-201"] = (cells, TableEstimator(options.nb201, cells))
        checks["NAS-Bench-201"] = check_nasbench201(options.nb201, cells)
    if options.macro is not None:
        chains = NASBenchMacro()
        table = TableEstimator(options.macro, chains)
        tables["NAS-Bench-Macro"] = (chains, table)
        checks["NAS-Bench-Macro"] = check_macro(table, options.macro, chains)
    return checks, tables


def _fronts(options: argparse.Namespace, tables: dict[str, tuple[Space, TableEstimator]]) -> dict[str, Any]:
    """Fronts of score against FLOPs after 300 evaluations: NSGA-II beside random search."""
    found: dict[str, Any] = {}
    evaluations = min(300, options.evaluations)
    for label, (space, table) in tables.items():
        shares = {name: hypervolumes(space, table, name, options.seeds, evaluations) for name in ("random", "nsga2")}
        rows = [(name, f"{100 * np.mean(share):.2f} ± {100 * np.std(share):.2f}") for name, share in shares.items()]
        title = (
            f"{label}: area under the front of score and FLOPs after {evaluations} evaluations, % of the whole table's"
        )
        print(section(title, ("", "%"), rows))
        found[label] = {name: {"mean": float(np.mean(s)), "std": float(np.std(s))} for name, s in shares.items()}
    return found


def _rounded(values: NDArray[np.float64]) -> list[float]:
    return [round(value, 4) for value in values.tolist()]


if __name__ == "__main__":
    sys.exit(main())
