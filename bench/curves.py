"""Extrapolation of learning curves on real ones: error, calibration, and what early termination saves.

    python -m bench.estimators curves --naap lc_naap440.npz --lcdb lc_lcdb_accuracy.npz --json OUT.json --plot OUT.svg

The curves are not part of nasfast. Predicted is the last value of a curve from its first part. All that is learned is
learned on training curves: NAAP-440 has its own split, with 40 test networks, and is taken in five folds too; LCDB is
split by data set. The prior that nasfast ships was learned on LCDB's training half, and written by --learn-prior FILE;
NAAP-440's curves are of a kind it has not seen.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import torch

from bench import environment
from bench.arguments import progress, write_json
from bench.curve_data import Curves, Split, folds, read_lcdb, read_naap
from bench.curve_mcmc import extrapolate as extrapolate_by_mcmc
from bench.curve_methods import Scores, score_ensemble, score_fit, score_last, score_regressor
from bench.curve_plots import draw
from bench.curve_stopping import BOUNDS, Outcome, by_median, by_probability, predictions
from bench.tables import section
from nasfast.errors import NasfastError
from nasfast.estimators.curves import DISTINCT, FAMILIES, CurveEnsemble

NAAP, FOLDED, LCDB = "NAAP-440", "NAAP-440, 5 folds", "LCDB"
FOLDS = 5
SHARES = {NAAP: (0.1, 0.2, 0.3, 0.5, 0.7), FOLDED: (0.1, 0.2, 0.3, 0.5, 0.7), LCDB: (0.3, 0.5, 0.7)}
ENSEMBLE, LAST = "ensemble", "last seen value"
SMOOTHING = {NAAP: 5.0, FOLDED: 5.0, LCDB: 60.0}
"""LCDB's curves come twenty to a data set, and are worth less each; chosen by cross-validation on training curves."""
FEWEST_FOR_COVERAGE = 200
"""Test curves that a verdict on calibration takes: the coverage of half of 40 curves is uncertain by 8 percent."""
MCMC_SHARE = 0.3
ORDERS = 100

Method = Callable[[float], Scores]
Summaries = dict[str, dict[float, dict[str, float]]]


def ensembles(
    label: str, train: list[Curves], families: tuple[str, ...] = DISTINCT, prior: str = "learned"
) -> CurveEnsemble:
    """An ensemble whose prior was learned on training curves."""
    groups = [(curves.values, curves.times) for curves in train]
    return CurveEnsemble(families, prior=prior).learn_groups(groups, SMOOTHING[label])


def methods(label: str, train: list[Curves], test: list[Curves]) -> dict[str, Method]:
    """Every way to predict, by name. On LCDB, the prior as shipped is the one learned on its training half."""
    found: dict[str, Method] = {
        LAST: lambda share: score_last(train, test, share, shifted=False),
        "last seen value + mean gain": lambda share: score_last(train, test, share, shifted=True),
        "ensemble, even prior": _of(lambda: CurveEnsemble(prior="even"), test),
    }
    if label != LCDB:
        found["ensemble, prior as shipped"] = _of(CurveEnsemble, test)
        found[ENSEMBLE] = _of(lambda: ensembles(label, train), test)
    else:
        found[ENSEMBLE] = _of(CurveEnsemble, test)
    for name in DISTINCT:
        found[f"{name}, Bayesian"] = _of(lambda name=name: ensembles(label, train, (name,), "even"), test)  # type: ignore[misc]
    for name in FAMILIES:
        found[f"{name}, least squares"] = lambda share, name=name: score_fit(name, test, share)  # type: ignore[misc]
    if train[0].features.shape[1]:
        for kind in ("svr", "bayesian"):
            for features in (True, False):
                text = f"regressor, {kind}" + ("" if features else ", no features")
                found[text] = lambda share, kind=kind, features=features: score_regressor(  # type: ignore[misc]
                    kind, train[0], test[0], share, features
                )
    return found


def _of(make: Callable[[], CurveEnsemble], test: list[Curves]) -> Method:
    made: list[CurveEnsemble] = []

    def score(share: float) -> Scores:
        if not made:
            made.append(make())
        return score_ensemble(made[0], test, share)

    return score


def score_all(label: str, splits: list[Split]) -> Summaries:
    """Of every method and share seen, over the test curves of all splits."""
    ways = [methods(label, train, test) for train, test in splits]
    found: Summaries = {}
    for i, name in enumerate(ways[0]):
        found[name] = {}
        for share in SHARES[label]:
            scores = Scores()
            for way in ways:
                scores.merge(way[name](share))
            found[name][share] = scores.summary()
        progress(i + 1, len(ways[0]), f"{label}, {name}")
    return found


def mean_over_shares(summaries: Summaries, measure: str) -> dict[str, float]:
    """Of every method that has the measure."""
    return {
        name: float(np.mean([row[measure] for row in by_share.values()]))
        for name, by_share in summaries.items()
        if all(measure in row for row in by_share.values())
    }


def verdicts(summaries: Summaries) -> dict[str, dict[str, Any]]:
    """The ensemble beside last seen value and the best single family, which the test curves themselves choose.

    Of few test curves, calibration is shown, but not judged.
    """
    found: dict[str, dict[str, Any]] = {}
    enough = min(row["curves"] for row in summaries[ENSEMBLE].values()) >= FEWEST_FOR_COVERAGE
    for measure, sign in (("mae", 1), ("crps", 1), ("log_score", -1), ("miscoverage", 1)):
        means = mean_over_shares(summaries, measure)
        single = {name: v for name, v in means.items() if name.split(",")[0] in FAMILIES}
        best = min(single, key=lambda name: sign * single[name])
        own = means[ENSEMBLE]
        found[measure] = {
            ENSEMBLE: own, LAST: means[LAST], "best single family": best, "its": single[best],
            "beats last": sign * own < sign * means[LAST], "beats best single": sign * own < sign * single[best],
            "judged": enough or measure != "miscoverage",
        }  # fmt: skip
    return found


def compare_mcmc(test: Curves, steps: int) -> dict[str, dict[str, float]]:
    """Domhan et al.'s chain beside the sum over a grid, on the same curves."""
    seen, _, truth = test.seen(MCMC_SHARE)
    found = {}
    for count in (steps // 4, steps):
        scores, started = Scores(), time.process_time()
        prediction = extrapolate_by_mcmc(DISTINCT, seen, float(test.times[-1]), count)
        scores.seconds = time.process_time() - started
        scores.add(prediction, truth)
        found[f"Markov chain, {count} steps of 100 walkers"] = scores.summary()
        progress(1, 1, f"Markov chain of {count} steps")
    found["grid, even prior"] = score_ensemble(CurveEnsemble(prior="even"), [test], MCMC_SHARE).summary()
    found["grid, prior as shipped"] = score_ensemble(CurveEnsemble(), [test], MCMC_SHARE).summary()
    return found


def stopping(train: list[Curves], test: Curves) -> dict[str, list[tuple[float, Outcome]]]:
    """Early termination of the test curves, in random orders."""
    generator = np.random.default_rng(0)
    orders = np.stack([generator.permutation(len(test.values)) for _ in range(ORDERS)])
    found: dict[str, list[tuple[float, Outcome]]] = {}
    for name, ensemble in (
        ("prior as shipped", CurveEnsemble()),
        ("prior learned on training curves", ensembles(NAAP, train)),
    ):
        ahead = predictions(ensemble, test.values)
        found[name] = [(bound, by_probability(ahead, test.values, bound, orders)) for bound in BOUNDS]
    found["median stopping rule"] = [(0.0, by_median(test.values, orders))]
    return found


def print_scores(label: str, summaries: Summaries) -> None:
    for share in SHARES[label]:
        rows = []
        for name, by_share in summaries.items():
            row = by_share[share]
            known = [f"{100 * row['mae']:.2f}"]
            if "crps" in row:
                known += [f"{100 * row['crps']:.2f}", f"{row['log_score']:.2f}"]
                known += [f"{row[f'coverage_{level}']:.0f}" for level in (50, 80, 90)]
            rows.append((name, *known, *["-"] * (6 - len(known))))
        title = f"{label}, {100 * share:.0f} % seen, {next(iter(summaries.values()))[share]['curves']} curves"
        print(
            section(title, ("", "MAE, points", "CRPS, points", "log score", "in 50 %", "80 %", "90 %"), rows),
            flush=True,
        )


def print_verdicts(label: str, found: dict[str, dict[str, Any]]) -> None:
    rows = [
        (measure, f"{v[ENSEMBLE]:.4f}", f"{v[LAST]:.4f}", f"{v['its']:.4f}", v["best single family"],
         _word(v["beats last"], v["judged"]), _word(v["beats best single"], v["judged"]))
        for measure, v in found.items()
    ]  # fmt: skip
    header = ("mean over shares seen", ENSEMBLE, LAST, "best single family", "which is", "beats last", "beats single")
    print(section(label, header, rows), flush=True)


def print_chains(chains: dict[str, dict[str, float]]) -> None:
    rows = [
        (name, f"{100 * v['mae']:.2f}", f"{100 * v['crps']:.2f}", f"{v['log_score']:.2f}", f"{v['miscoverage']:.0f}",
         f"{1000 * v['seconds'] / v['curves']:.1f}")
        for name, v in chains.items()
    ]  # fmt: skip
    title = f"NAAP-440, {100 * MCMC_SHARE:.0f} % seen: the ensemble by Markov chains and by the grid"
    header = ("", "MAE, points", "CRPS, points", "log score", "coverage off by, %", "CPU ms a curve")
    print(section(title, header, rows), flush=True)


def print_stopping(stopped: dict[str, list[tuple[float, Outcome]]], trials: int) -> None:
    rows = [
        (f"{name}, bound {bound:g}" if bound else name, f"{100 * o.saved:.0f}",
         f"{100 * o.regret:.3f} ± {100 * o.regret_std:.3f}", f"{100 * o.found:.0f}")
        for name, found in stopped.items() for bound, o in found
    ]  # fmt: skip
    title = f"early termination of NAAP-440's {trials} test networks, {ORDERS} random orders"
    print(section(title, ("", "epochs saved, %", "regret, points", "best found, %"), rows))


def _word(yes: bool, judged: bool) -> str:
    word = "yes" if yes else "NO"
    return word if judged else f"{word}, of too few to judge"


def learn_prior(train: list[Curves], path: Path) -> None:
    """Write the prior that nasfast ships."""
    ensembles(LCDB, train, prior="even").save_prior(path)
    print(f"wrote {path}")


def parse(arguments: list[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m bench.estimators curves", description=__doc__.split("\n")[0])
    parser.add_argument("--naap", type=Path, metavar="FILE", help="NAAP-440, .npz")
    parser.add_argument("--lcdb", type=Path, metavar="FILE", help="LCDB, .npz")
    parser.add_argument(
        "--mcmc", type=int, metavar="STEPS", help="compare with Markov chains of so many steps, on NAAP-440"
    )
    parser.add_argument(
        "--learn-prior", type=Path, metavar="FILE", help="write the prior learned on LCDB's training half; no more"
    )
    parser.add_argument("--json", type=Path, metavar="FILE", help="write every number to FILE")
    parser.add_argument("--plot", type=Path, metavar="FILE", default=Path("runs/bench/curves.svg"), help="svg or png")
    options = parser.parse_args(arguments)
    if options.naap is None and options.lcdb is None:
        parser.error("give --naap FILE, --lcdb FILE or both")
    if options.mcmc is not None and (options.naap is None or options.mcmc < 100):
        parser.error("--mcmc goes with --naap, and takes at least 100 steps")
    if options.learn_prior is not None and options.lcdb is None:
        parser.error("--learn-prior goes with --lcdb")
    return options


def main(arguments: list[str]) -> int:
    options = parse(arguments)
    torch.set_num_threads(1)
    facts = environment.describe("cpu", 1)
    try:
        data: dict[str, list[Split]] = {}
        if options.naap is not None:
            own = read_naap(options.naap)
            data |= {NAAP: [own], FOLDED: folds(own, FOLDS)}
        if options.lcdb is not None:
            data[LCDB] = [read_lcdb(options.lcdb)]
        if options.learn_prior is not None:
            learn_prior(data[LCDB][0][0], options.learn_prior)
            return 0
    except NasfastError as error:
        print(f"bench.estimators curves: {error}", file=sys.stderr)
        return 1
    summaries = {label: score_all(label, splits) for label, splits in data.items()}
    judged = {label: verdicts(found) for label, found in summaries.items()}
    for label, found in summaries.items():
        print_scores(label, found)
        print_verdicts(label, judged[label])
    results: dict[str, object] = {"environment": facts, "scores": summaries, "verdicts": judged}
    stopped: dict[str, list[tuple[float, Outcome]]] = {}
    if NAAP in data:
        train, test = data[NAAP][0]
        if options.mcmc is not None:
            results["markov_chain"] = chains = compare_mcmc(test[0], options.mcmc)
            print_chains(chains)
        stopped = stopping(train, test[0])
        results["early_termination"] = {
            name: [{"bound": bound, **asdict(outcome)} for bound, outcome in found] for name, found in stopped.items()
        }
        print_stopping(stopped, len(test[0].values))
    draw(options.plot, {label: SHARES[label] for label in summaries}, summaries, stopped)
    write_json(options.json, results)
    missed = [
        f"{measure} on {label}" for label, found in judged.items() for measure, v in found.items()
        if v["judged"] and not (v["beats last"] and v["beats best single"])
    ]  # fmt: skip
    if missed:
        print(f"bench.estimators curves: the ensemble is not the best by {', '.join(missed)}", file=sys.stderr)
    return 1 if missed else 0
