"""Early termination on finished curves: epochs saved against what is lost."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from nasfast.estimators.curves import CurveEnsemble
from nasfast.estimators.curves.families import Floats
from nasfast.estimators.curves.prediction import Prediction

BOUNDS = (0.01, 0.02, 0.05, 0.1, 0.2, 0.3, 0.5)
FIRST, EVERY = 6, 3
"""Epoch of the first decision, and epochs from one to the next."""


@dataclass(frozen=True)
class Outcome:
    """Of one rule, over all orders of the trials.

    Attributes:
        saved: Share of all epochs, mean.
        regret: Best last value of all trials minus that of the finished ones: mean, and standard deviation.
        found: Share of the orders in which the best trial was finished.
    """

    saved: float
    regret: float
    regret_std: float
    found: float


def predictions(ensemble: CurveEnsemble, curves: Floats) -> dict[int, Prediction]:
    """Of all curves [K, T] at every epoch of decision."""
    last = curves.shape[1]
    return {n: ensemble.extrapolate(curves[:, :n], [float(last)]) for n in range(FIRST, last, EVERY)}


def by_probability(found: dict[int, Prediction], curves: Floats, bound: float, orders: np.ndarray) -> Outcome:
    """Stop when the probability to beat the incumbent is under a bound: what CurveStopper does without relearning."""

    def stops(trial: int, epoch: int, incumbent: float, _: list[int]) -> bool:
        part = Prediction(found[epoch].centres[trial : trial + 1], found[epoch].scales[trial : trial + 1])
        return float(part.probability_above(incumbent)[0, 0]) < bound

    return _simulate(curves, orders, stops)


def by_median(curves: Floats, orders: np.ndarray) -> Outcome:
    """Stop when the best so far is under the median of finished trials' means up to the same epoch.

    Golovin et al., "Google Vizier", KDD 2017, section 3.1.2.
    """
    means = np.cumsum(curves, 1) / np.arange(1, curves.shape[1] + 1)
    best = np.maximum.accumulate(curves, 1)

    def stops(trial: int, epoch: int, _: float, finished: list[int]) -> bool:
        return bool(best[trial, epoch - 1] < np.median(means[finished, epoch - 1]))

    return _simulate(curves, orders, stops)


def _simulate(curves: Floats, orders: np.ndarray, stops) -> Outcome:  # type: ignore[no-untyped-def]
    """Run the trials one after the other, in each of ``orders`` [S, K]."""
    last = curves.shape[1]
    final = curves[:, -1]
    saved, regret = [], []
    for order in orders.tolist():
        incumbent, spent = -np.inf, 0
        finished: list[int] = []
        for trial in order:
            decisions = range(FIRST, last, EVERY) if finished else ()
            epoch = next((n for n in decisions if stops(trial, n, incumbent, finished)), last)
            spent += epoch
            if epoch == last:
                finished.append(trial)
                incumbent = max(incumbent, float(final[trial]))
        saved.append(1 - spent / curves.size)
        regret.append(float(final.max()) - incumbent)
    lost = np.array(regret)
    return Outcome(float(np.mean(saved)), float(lost.mean()), float(lost.std()), float((lost == 0).mean()))
