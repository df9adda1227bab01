"""What an ensemble predicts for rows, each by the models that have not been trained on it, also for changed rows."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from nasfast.automl.calibrate import sharpen
from nasfast.automl.ensemble import blend
from nasfast.automl.members.base import Model
from nasfast.automl.prepare import Prepared
from nasfast.automl.problem import Array, Problem


@dataclass(frozen=True)
class HeldOut:
    """Rows that were held out, and who may predict them.

    Attributes:
        members: Weights and models of the ensemble.
        rows: Of the problem [N].
        folds: Of each fold, which of ``rows`` it held out.
    """

    problem: Problem
    members: Sequence[tuple[float, Model]]
    temperature: float
    rows: NDArray[np.int64]
    folds: tuple[NDArray[np.int64], ...]

    @classmethod
    def of(
        cls,
        problem: Problem,
        members: Sequence[tuple[float, Model]],
        temperature: float,
        rows: NDArray[np.int64],
    ) -> HeldOut:
        """Of these held-out rows."""
        folds = tuple(np.flatnonzero(np.isin(rows, fold.valid)) for fold in problem.folds)
        return cls(problem, members, temperature, rows, folds)

    @property
    def prepared(self) -> Prepared:
        """The rows as they are."""
        return self.problem.prepared.take(self.rows)

    @property
    def y(self) -> Array:
        """Their targets."""
        return self.problem.y[self.rows]

    def predict(self, prepared: Prepared) -> Array:
        """Predictions [N, outputs] of the rows, whatever they were changed to."""
        predictions = [model.predict_held_out(prepared, self.folds) for _, model in self.members]
        mean = blend(predictions, np.array([weight for weight, _ in self.members]))
        return sharpen(mean, self.temperature) if self.problem.task.classes else mean
