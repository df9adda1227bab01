"""What every member of an ensemble has in common."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from nasfast.automl.prepare import Prepared
from nasfast.automl.problem import Array

Arrays = dict[str, NDArray[Any]]
RowsOfFolds = Sequence[NDArray[np.int64]]
"""Of each fold, which rows of a table it has held out."""


class Model(Protocol):
    """Trained members of all folds."""

    kind: str

    def predict(self, prepared: Prepared) -> Array:
        """Probabilities [N, classes], or numbers [N, 1]: the mean of the folds."""

    def predict_held_out(self, prepared: Prepared, folds: RowsOfFolds) -> Array:
        """Predictions [N, outputs] of each row by the model of the one fold that held it out."""

    def to_arrays(self) -> Arrays:
        """Everything that it learned."""

    def settings(self) -> Mapping[str, Any]:
        """The rest, as JSON."""


@dataclass(frozen=True)
class Candidate:
    """A member that was tried.

    Attributes:
        name: For the leaderboard.
        family: "constant", "linear", "boosting" or "network".
        model: Of all folds.
        oof: Out-of-fold predictions [N, outputs]; NaN rows were never held out.
        seconds: It took to train.
    """

    name: str
    family: str
    model: Model
    oof: Array
    seconds: float
    notes: Mapping[str, Any] = field(default_factory=dict)
