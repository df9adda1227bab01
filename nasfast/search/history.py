"""How the trials of a search stand: the best, the front and the rungs, kept up to date trial by trial.

What a new trial changes costs the same however many there were: only the front is looked through.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from nasfast.config.objectives import FIDELITY, Objective

Row = tuple[int, ...]


@dataclass(frozen=True)
class Trial:
    """One evaluated architecture.

    Attributes:
        number: From 0, in the order of evaluation.
        row: Its choices.
        metrics: All that is known of it; "score" is the estimator's.
        violation: How far it breaks the constraints.
    """

    number: int
    row: Row
    metrics: dict[str, float]
    violation: float = 0.0

    @classmethod
    def of(cls, logged: Mapping[str, Any]) -> Trial:
        """From its row in a run's log."""
        return cls(logged["number"], tuple(logged["row"]), logged["metrics"], logged["violation"])

    @property
    def score(self) -> float:
        return self.metrics["score"]


@dataclass
class Rung:
    """Trials of one fidelity.

    Attributes:
        fidelity: Epochs; 0 where a search tells none apart.
        rows: The different architectures.
        best: The trial with the best first objective among those that keep the constraints, the first of equal ones;
            None where none keeps them.
        score: The largest of those that keep the constraints.
    """

    fidelity: float
    rows: set[Row] = field(default_factory=set)
    best: Trial | None = None
    score: float = -math.inf

    @property
    def name(self) -> str:
        """Its fidelity as text."""
        return f"{self.fidelity:g} epoch{'' if self.fidelity == 1 else 's'}"


class History:
    """The best, the front and the rungs of the trials that were added.

    Of several fidelities, the best and the front are of the largest one that has a trial that keeps the constraints:
    scores after different numbers of epochs cannot be compared.

    Args:
        objectives: One or more.

    Attributes:
        count: Trials that were added.
        top: What the best and the front are taken from; None before a trial keeps the constraints.
    """

    def __init__(self, objectives: Sequence[Objective]) -> None:
        self._objectives = tuple(objectives)
        self._rungs: dict[float, Rung] = {}
        self._front = _Front(len(self._objectives))
        self.count = 0
        self.top: Rung | None = None

    @property
    def rungs(self) -> list[Rung]:
        """By fidelity, rising."""
        return [self._rungs[fidelity] for fidelity in sorted(self._rungs)]

    @property
    def best(self) -> Trial | None:
        """The trial with the best first objective, the first of equal ones; None where none keeps the constraints."""
        return None if self.top is None else self.top.best

    def add(self, trial: Trial) -> None:
        """Take in the next trial; its metrics are finite numbers."""
        self.count += 1
        fidelity = trial.metrics.get(FIDELITY, 0.0)
        rung = self._rungs.setdefault(fidelity, Rung(fidelity))
        rung.rows.add(trial.row)
        if trial.violation:
            return
        values = np.array([objective.value(trial.metrics) for objective in self._objectives])
        rung.score = max(rung.score, trial.score)
        if rung.best is None or values[0] > self._objectives[0].value(rung.best.metrics):
            rung.best = trial
        if self.top is None or fidelity > self.top.fidelity:
            self.top, self._front = rung, _Front(len(values))
        if rung is self.top:
            self._front.add(trial, values)

    def front(self) -> list[Trial]:
        """Different architectures that no other dominates, the best first objective first, of equal ones the first."""
        first = self._objectives[0]
        return sorted(self._front.trials, key=lambda trial: (-first.value(trial.metrics), trial.number))


class _Front:
    """Trials that no other one dominates, in any order; of each architecture, its first trial.

    Args:
        width: Objectives.
    """

    def __init__(self, width: int) -> None:
        self._rows: set[Row] = set()
        self._values = np.empty((0, width))
        self.trials: list[Trial] = []

    def add(self, trial: Trial, values: np.ndarray[Any, np.dtype[np.float64]]) -> None:
        """Take in a trial with its objectives, larger is better: float64 [M]."""
        if trial.row in self._rows:
            return
        self._rows.add(trial.row)
        differs = (self._values != values).any(1)
        if ((self._values >= values).all(1) & differs).any():
            return
        beaten = (self._values <= values).all(1) & differs
        if beaten.any():
            self.trials = [other for other, gone in zip(self.trials, beaten, strict=True) if not gone]
        self.trials.append(trial)
        self._values = np.vstack([self._values[~beaten], values])
