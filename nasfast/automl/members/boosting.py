"""Boosted trees: HistGradientBoosting of scikit-learn, grown in all folds together and kept as arrays."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from time import perf_counter
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sklearn.ensemble import HistGradientBoostingClassifier, HistGradientBoostingRegressor

from nasfast.automl.members.base import Arrays, Candidate, RowsOfFolds
from nasfast.automl.metrics import Metric
from nasfast.automl.prepare import Prepared
from nasfast.automl.problem import Array, Problem
from nasfast.automl.task import Task, probabilities
from nasfast.automl.trees import Trees
from nasfast.errors import RunError

_GROWTH = 1.3  # from one size at which forests are judged to the next
_FIRST = 8
_PATIENCE = 1.8  # a forest this many times as large as the best one has not helped: it is over
_ABSENT = -30.0  # raw output of a class that a fold has no row of


@dataclass(frozen=True)
class BoostingSettings:
    """Settings of scikit-learn's HistGradientBoosting; the defaults are its own."""

    learning_rate: float = 0.1
    max_leaf_nodes: int = 31
    min_samples_leaf: int = 20
    l2_regularization: float = 0.0
    max_features: float = 1.0
    max_iter: int = 500


class Boosting:
    """The mean of forests, one per fold.

    Args:
        forests: Of each fold.
        classes: Of each fold: the classes it has seen, by number.
    """

    kind = "boosting"

    def __init__(self, task: Task, forests: Sequence[Trees], classes: Sequence[NDArray[np.int64]]) -> None:
        self.task, self.forests, self.classes = task, tuple(forests), tuple(classes)

    def predict(self, prepared: Prepared) -> Array:
        return np.mean([self._predict_fold(prepared, fold) for fold in range(len(self.forests))], axis=0)

    def predict_held_out(self, prepared: Prepared, folds: RowsOfFolds) -> Array:
        found = np.full((len(prepared), self.task.outputs), np.nan)
        for fold, rows in enumerate(folds):
            if len(rows):
                found[rows] = self._predict_fold(prepared.take(rows), fold)
        return found

    def _predict_fold(self, prepared: Prepared, fold: int) -> Array:
        return probabilities(_all_classes(self.forests[fold].raw(prepared), self.classes[fold], self.task), self.task)

    def to_arrays(self) -> Arrays:
        arrays: Arrays = {}
        for i, (trees, classes) in enumerate(zip(self.forests, self.classes, strict=True)):
            arrays |= {f"{i}.{name}": array for name, array in trees.to_arrays().items()}
            arrays[f"{i}.classes"] = classes
        return arrays

    def settings(self) -> Mapping[str, Any]:
        return {"folds": len(self.forests)}

    @classmethod
    def from_arrays(cls, arrays: Arrays, settings: Mapping[str, Any], task: Task) -> Boosting:
        """The one that was stored.

        Raises:
            RunError: The arrays are not of such a member.
        """
        forests, classes = [], []
        for i in range(int(settings["folds"])):
            own = {name.partition(".")[2]: a for name, a in arrays.items() if name.startswith(f"{i}.")}
            seen = own.pop("classes", None)
            if seen is None or seen.ndim != 1 or seen.dtype != np.int64 or len(np.unique(seen)) != len(seen):
                raise RunError(f"boosting member: fold {i} must have the classes it has seen, got {seen}")
            trees = Trees.from_arrays(own)
            logits = len(seen) if task.kind == "multiclass" and len(seen) > 2 else 1
            if (seen < 0).any() or (seen >= task.outputs).any() or trees.baseline.shape != (logits,):
                raise RunError(
                    f"boosting member: classes {seen} of fold {i} do not go with {trees.baseline.shape} outputs"
                )
            forests.append(trees)
            classes.append(seen)
        return cls(task, forests, classes)


def _all_classes(raw: Array, classes: NDArray[np.int64], task: Task) -> Array:
    """Raw outputs [N, logits] of a forest that has not seen every class."""
    if task.kind != "multiclass":
        return raw
    full = np.full((len(raw), task.outputs), _ABSENT)
    if raw.shape[1] == 1:  # two classes were there
        full[:, classes[0]], full[:, classes[1]] = 0.0, raw[:, 0]
    else:
        full[:, classes] = raw
    return full


def design(prepared: Prepared) -> Array:
    """What scikit-learn trains on: numbers, then codes of categories, float64 [N, Fn + Fc]."""
    numbers = np.where(np.isinf(prepared.numbers), np.nan, prepared.numbers)
    return np.concatenate([numbers, prepared.codes], axis=1, dtype=np.float64)


def _estimator(problem: Problem, settings: BoostingSettings) -> Any:
    numbers, codes = problem.prepared.numbers.shape[1], problem.prepared.codes.shape[1]
    kind = HistGradientBoostingRegressor if problem.task.kind == "regression" else HistGradientBoostingClassifier
    mask = np.array([False] * numbers + [True] * codes)
    return kind(
        **asdict(settings) | {"max_iter": 1},
        categorical_features=mask if codes else None,
        early_stopping=False,
        warm_start=True,
        random_state=problem.seed,
    )


def _sizes(most: int) -> list[int]:
    sizes, size = [], float(_FIRST)
    while size < most:
        sizes.append(int(size))
        size = max(size * _GROWTH, size + 1)
    return [*sizes, most]


class _Fold:
    """The forest of one fold, which grows."""

    def __init__(self, problem: Problem, x: Array, train: Any, valid: Any, settings: BoostingSettings) -> None:
        self._model = _estimator(problem, settings)
        self._task = problem.task
        y = problem.y[train]
        self._y = y if problem.task.kind == "regression" else y.astype(np.int64)
        self._x, self._weight, self._valid_x = x[train], problem.weight[train], x[valid]
        # Equal weights are left out: with them scikit-learn takes a slower way to the same trees.
        self._weight = None if (self._weight == self._weight[0]).all() else self._weight
        self.classes = np.unique(self._y).astype(np.int64) if problem.task.classes else np.zeros(1, np.int64)

    def grow(self, iterations: int) -> Array:
        """Grow to that many iterations; predictions [valid, outputs] of what was held out."""
        self._model.set_params(max_iter=iterations)
        self._model.fit(self._x, self._y, sample_weight=self._weight)
        if self._task.kind == "regression":
            return self._model.predict(self._valid_x)[:, None]
        p = np.zeros((len(self._valid_x), self._task.outputs))
        p[:, self.classes] = self._model.predict_proba(self._valid_x)
        return p

    def trees(self, iterations: int) -> Trees:
        """What was grown in the first iterations."""
        return Trees.of(self._model, iterations)


def fit_boosting(
    problem: Problem,
    metric: Metric,
    settings: BoostingSettings,
    name: str,
    seconds: float | None,
    reached: int | None = None,
) -> Candidate | None:
    """Grow the forests of all folds together, as long as that helps or ``seconds`` last; keep the best size.

    The size is chosen once for all folds, by their out-of-fold predictions together.

    Args:
        seconds: None: as long as it helps.
        reached: Instead: the size that an earlier growth reached.

    Returns:
        The member; None where a fold has a single class.
    """
    start = perf_counter()
    x = design(problem.prepared)
    folds = [_Fold(problem, x, fold.train, fold.valid, settings) for fold in problem.folds]
    if problem.task.classes and any(len(fold.classes) < 2 for fold in folds):
        return None
    judged = problem.judged()
    best: tuple[float, int, Array] | None = None
    before = 0
    for size in _sizes(settings.max_iter):
        spent = perf_counter() - start
        if reached is not None:
            if size > reached:
                break
        elif seconds is not None and before and spent * (size - before) / before * 1.1 > seconds - spent:
            break
        oof = problem.empty_oof()
        for fold, rows in zip(folds, problem.folds, strict=True):
            oof[rows.valid] = fold.grow(size)
        loss = metric.loss(problem.y[judged], oof[judged])
        before = size
        if best is None or loss < best[0]:
            best = loss, size, oof
        elif reached is None and size > _PATIENCE * best[1] + 20:
            break
    assert best is not None
    model = Boosting(problem.task, [fold.trees(best[1]) for fold in folds], [fold.classes for fold in folds])
    notes = {**asdict(settings), "iterations": best[1], "reached": before}
    return Candidate(name, "boosting", model, best[2], perf_counter() - start, notes)
