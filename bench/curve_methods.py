"""Ways to predict the last value of a curve, and how they are scored."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np

from bench.curve_data import Curves
from nasfast.estimators.curves import CurveEnsemble, CurveRegressor, Prediction, fit_family
from nasfast.estimators.curves.families import Floats

INTERVALS = (50, 80, 90)


@dataclass
class Scores:
    """What is known of a method at one share of the curve seen; arrays over curves."""

    error: list[Floats] = field(default_factory=list)
    crps: list[Floats] = field(default_factory=list)
    log: list[Floats] = field(default_factory=list)
    rank: list[Floats] = field(default_factory=list)
    seconds: float = 0.0

    def add_point(self, values: Floats, truth: Floats) -> None:
        self.error.append(np.abs(values - truth))

    def add(self, prediction: Prediction, truth: Floats) -> None:
        self.add_point(prediction.median[:, 0], truth)
        self.crps.append(prediction.crps(truth[:, None])[:, 0])
        self.log.append(prediction.log_density(truth[:, None])[:, 0])
        self.rank.append(prediction.cdf(truth[:, None])[:, 0])

    def merge(self, other: Scores) -> None:
        """Of other curves, by the same method."""
        self.error += other.error
        self.crps += other.crps
        self.log += other.log
        self.rank += other.rank
        self.seconds += other.seconds

    def summary(self) -> dict[str, float]:
        """Means; coverage of central intervals in percent."""
        error = np.concatenate(self.error)
        found = {"curves": len(error), "mae": float(error.mean()), "seconds": self.seconds}
        if self.crps:
            off = np.abs(np.concatenate(self.rank) - 0.5)
            found |= {
                "crps": float(np.concatenate(self.crps).mean()),
                "log_score": float(np.concatenate(self.log).mean()),
            }
            found |= {f"coverage_{level}": float((off < level / 200).mean() * 100) for level in INTERVALS}
            # How far coverage is off, on average over the three intervals: what calibration comes down to.
            found["miscoverage"] = float(np.mean([abs(found[f"coverage_{level}"] - level) for level in INTERVALS]))
        return found


def score_ensemble(ensemble: CurveEnsemble, test: Sequence[Curves], share: float) -> Scores:
    scores = Scores()
    for curves in test:
        seen, times, truth = curves.seen(share)
        if len(truth):
            started = time.process_time()
            prediction = ensemble.extrapolate(seen, curves.times[-1:], times)
            scores.seconds += time.process_time() - started
            scores.add(prediction, truth)
    return scores


def score_fit(name: str, test: Sequence[Curves], share: float) -> Scores:
    """Least squares, as a family is fitted by default: every value seen counts, dips too; kept between 0 and 1."""
    scores = Scores()
    for curves in test:
        seen, times, truth = curves.seen(share)
        if len(truth):
            started = time.process_time()
            values = fit_family(name, seen, times, float(curves.times[-1])).value(curves.times[-1:])[:, 0]
            scores.seconds += time.process_time() - started
            scores.add_point(np.clip(values, 0, 1), truth)
    return scores


def score_last(train: Sequence[Curves], test: Sequence[Curves], share: float, shifted: bool) -> Scores:
    """The last seen value, with the spread of what training curves went on to gain; or shifted by its mean too."""
    gains = np.concatenate([truth - seen[:, -1] for seen, _, truth in (curves.seen(share) for curves in train)])
    shift = float(gains.mean()) if shifted else 0.0
    spread = float(np.sqrt(np.mean((gains - shift) ** 2)))
    scores = Scores()
    for curves in test:
        seen, _, truth = curves.seen(share)
        if len(truth):
            centres = seen[:, -1, None, None] + shift
            scores.add(Prediction(centres, np.full(centres.shape, spread)), truth)
    return scores


def score_regressor(kind: str, train: Curves, test: Curves, share: float, features: bool) -> Scores:
    scores = Scores()
    seen, _, truth = test.seen(share)
    started = time.process_time()
    model = CurveRegressor("svr" if kind == "svr" else "bayesian")
    model.fit(train.values, np.log1p(train.features) if features else None)
    prediction = model.predict(seen, np.log1p(test.features) if features else None)
    scores.seconds = time.process_time() - started
    scores.add(prediction, truth)
    return scores
