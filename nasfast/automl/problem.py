"""What members train on."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from nasfast.automl.prepare import Prepared
from nasfast.automl.splits import Fold
from nasfast.automl.task import Task

Array = NDArray[np.float64]


@dataclass(frozen=True)
class Problem:
    """A prepared table with its targets and folds.

    Attributes:
        prepared: Rows with a target.
        y: Their targets [N]: a class's number, or a number.
        weight: Of each row [N], mean 1.
    """

    task: Task
    prepared: Prepared
    y: Array
    weight: Array
    folds: tuple[Fold, ...]
    seed: int

    def empty_oof(self) -> Array:
        """Room for out-of-fold predictions."""
        return np.full((len(self.y), self.task.outputs), np.nan)

    def judged(self) -> NDArray[np.int64]:
        """Rows that are held out in some fold and count, in order."""
        held_out = np.unique(np.concatenate([fold.valid for fold in self.folds]))
        return held_out[self.weight[held_out] > 0]
