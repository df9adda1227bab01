"""The member that looks at nothing: shares of the classes, or the mean."""

from __future__ import annotations

from collections.abc import Mapping
from time import perf_counter
from typing import Any

import numpy as np

from nasfast.automl.members.base import Arrays, Candidate, RowsOfFolds
from nasfast.automl.prepare import Prepared
from nasfast.automl.problem import Array, Problem
from nasfast.errors import RunError


class Constant:
    """The same prediction for every row.

    Args:
        values: [outputs].
    """

    kind = "constant"

    def __init__(self, values: Array) -> None:
        self.values = values

    def predict(self, prepared: Prepared) -> Array:
        return np.tile(self.values, (len(prepared), 1))

    def predict_held_out(self, prepared: Prepared, folds: RowsOfFolds) -> Array:
        return self.predict(prepared)

    def to_arrays(self) -> Arrays:
        return {"values": self.values}

    def settings(self) -> Mapping[str, Any]:
        return {}

    @classmethod
    def from_arrays(cls, arrays: Arrays, settings: Mapping[str, Any], outputs: int) -> Constant:
        """The one that was stored.

        Raises:
            RunError: The arrays are not of such a member.
        """
        values = arrays.get("values")
        if values is None or values.shape != (outputs,):
            raise RunError(
                f"constant member must have values [{outputs}], got {None if values is None else values.shape}"
            )
        return cls(values.astype(np.float64))


def _mean(problem: Problem, rows: Any) -> Array:
    y, weight = problem.y[rows], problem.weight[rows]
    if problem.task.kind == "regression":
        return np.array([np.average(y, weights=weight)])
    shares = np.bincount(y.astype(np.int64), weights=weight, minlength=problem.task.outputs)
    return shares / shares.sum()


def fit_constant(problem: Problem) -> Candidate:
    """Out-of-fold constants, and that of all rows."""
    start = perf_counter()
    oof = problem.empty_oof()
    for fold in problem.folds:
        oof[fold.valid] = _mean(problem, fold.train)
    return Candidate("constant", "constant", Constant(_mean(problem, slice(None))), oof, perf_counter() - start)
