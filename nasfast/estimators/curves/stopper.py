"""Early termination of trials that will not beat the best one."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from nasfast.errors import ConfigError, DataError
from nasfast.estimators.curves import FEWEST
from nasfast.estimators.curves.ensemble import CurveEnsemble
from nasfast.estimators.curves.families import DISTINCT
from nasfast.estimators.curves.prediction import Prediction

_RELEARN = 10


class CurveStopper:
    """Says when a trial may stop: when the probability that it beats the incumbent at the last epoch is under a bound.

    The incumbent is the best value at the last epoch of all trials that got there (Domhan, Springenberg, Hutter, IJCAI
    2015). After every ten of them, the prior of the ensemble is learned anew from all of them. What is decided depends
    on what was observed and on the settings alone, and all of that is in :meth:`state`.

    Args:
        last_epoch: Of a trial that is not stopped.
        bound: Stop under this probability. A curve may always surprise (draws.py), so that under 0.01 nothing stops.
        first_epoch: No trial is stopped before it.
        bounds: Lowest and highest value; (0, 1) for accuracy.
        seed: Of the ensemble.

    Raises:
        ConfigError: An argument is out of range.
    """

    def __init__(
        self,
        last_epoch: int,
        bound: float = 0.05,
        first_epoch: int = 5,
        bounds: tuple[float, float] = (0.0, 1.0),
        seed: int = 0,
    ) -> None:
        if not 0 < bound < 1:
            raise ConfigError(f"bound must be between 0 and 1, got {bound}")
        if not FEWEST <= first_epoch < last_epoch:
            raise ConfigError(f"first_epoch must be from {FEWEST} to below last_epoch {last_epoch}, got {first_epoch}")
        self.last_epoch, self.bound, self.first_epoch, self.seed = last_epoch, bound, first_epoch, seed
        self._ensemble = CurveEnsemble(DISTINCT, bounds, seed=seed)
        self._learned = 0
        self._curves: dict[str, dict[int, float]] = {}
        self._finished: list[str] = []

    @property
    def incumbent(self) -> float | None:
        """The best value at the last epoch so far; None before a trial got there."""
        return max((self._curves[trial][self.last_epoch] for trial in self._finished), default=None)

    def observe(self, trial: str | int, epoch: int, value: float) -> None:
        """Take the value of a trial after an epoch, from 1 to the last one.

        Raises:
            DataError: The epoch is out of range, or was observed before with another value; the value is not finite.
        """
        key = str(trial)
        if not 1 <= epoch <= self.last_epoch:
            raise DataError(f"trial {key}: epoch must be 1 to {self.last_epoch}, got {epoch}")
        if not math.isfinite(value):
            raise DataError(f"trial {key}, epoch {epoch}: expected a finite value, got {value}")
        curve = self._curves.setdefault(key, {})
        if curve.get(epoch, value) != value:
            raise DataError(f"trial {key}, epoch {epoch}: observed {curve[epoch]} before, now {value}")
        if epoch == self.last_epoch and epoch not in curve:
            self._finished.append(key)
        curve[epoch] = float(value)

    def probability(self, trial: str | int) -> float:
        """Probability that a trial beats the incumbent at the last epoch; 1 where there is none yet.

        Raises:
            DataError: Fewer than three epochs of the trial were observed.
        """
        incumbent = self.incumbent
        if incumbent is None:
            self._check_seen(str(trial))
            return 1.0
        return float(self.predict(trial).probability_above(incumbent)[0, 0])

    def predict(self, trial: str | int) -> Prediction:
        """Distribution of a trial's value at the last epoch, [1, 1].

        Raises:
            DataError: Fewer than three epochs of the trial were observed.
        """
        key = str(trial)
        curve = self._check_seen(key)
        self._learn()
        seen = self._row(key)[:, : max(curve)]
        return self._ensemble.extrapolate(seen, [float(self.last_epoch)])

    def should_stop(self, trial: str | int) -> bool:
        """Whether to stop a trial now."""
        key = str(trial)
        curve = self._curves.get(key, {})
        if key in self._finished or len(curve) < FEWEST or max(curve) < self.first_epoch or self.incumbent is None:
            return False
        return self.probability(key) < self.bound

    def state(self) -> dict[str, Any]:
        """Everything a later decision depends on, as plain JSON values."""
        return {
            "last_epoch": self.last_epoch,
            "bound": self.bound,
            "first_epoch": self.first_epoch,
            "bounds": list(self._ensemble.bounds),
            "seed": self.seed,
            "curves": {key: [list(curve), list(curve.values())] for key, curve in self._curves.items()},
            "finished": list(self._finished),
        }

    @classmethod
    def from_state(cls, state: dict[str, Any]) -> CurveStopper:
        """Go on from :meth:`state`: every decision is the same."""
        low, high = state["bounds"]
        stopper = cls(state["last_epoch"], state["bound"], state["first_epoch"], (low, high), state["seed"])
        stopper._curves = {k: dict(zip(epochs, values, strict=True)) for k, (epochs, values) in state["curves"].items()}
        stopper._finished = list(state["finished"])
        return stopper

    def _check_seen(self, key: str) -> dict[int, float]:
        curve = self._curves.get(key, {})
        if len(curve) < FEWEST:
            raise DataError(f"trial {key}: {len(curve)} epochs observed, expected at least {FEWEST}")
        return curve

    def _learn(self) -> None:
        usable = len(self._finished) - len(self._finished) % _RELEARN
        if usable == self._learned:
            return
        fresh = CurveEnsemble(DISTINCT, self._ensemble.bounds, seed=self.seed)
        rows = [self._row(key) for key in self._finished[:usable] if len(self._curves[key]) > FEWEST]
        self._ensemble, self._learned = fresh.learn(np.concatenate(rows)) if rows else fresh, usable

    def _row(self, key: str) -> np.ndarray:
        row = np.full((1, self.last_epoch), np.nan)
        for epoch, value in self._curves[key].items():
            row[0, epoch - 1] = value
        return row
