"""Linear members: logistic or ridge regression on standardised numbers and one-hot categories."""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from dataclasses import dataclass
from time import perf_counter
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sklearn.exceptions import ConvergenceWarning
from sklearn.linear_model import LogisticRegression, Ridge

from nasfast.automl.members.base import Arrays, Candidate, RowsOfFolds
from nasfast.automl.metrics import Metric
from nasfast.automl.prepare import Prepared
from nasfast.automl.problem import Array, Problem
from nasfast.automl.task import Task, probabilities
from nasfast.errors import RunError

CLIP = 4.0
"""Numbers are bent towards this many spreads from their median, so that a far one does not rule."""

_STRENGTHS = (0.03, 0.3, 0.003, 3.0)  # the likeliest first
_ITERATIONS = 200
_SURE = 4.0
_MOST_ROWS = 30_000  # of a fold; more change little and take long


@dataclass(frozen=True)
class Design:
    """From a prepared table to the columns of a linear model.

    Attributes:
        center: Median of each number [Fn].
        scale: Its spread [Fn]; 1 where it has none.
        missing: Numbers with missing values in training [Fn]: they have an indicator.
        codes: How many codes each category has.
    """

    center: Array
    scale: Array
    missing: NDArray[np.bool_]
    codes: tuple[int, ...]

    @classmethod
    def of(cls, prepared: Prepared) -> Design:
        """What suits these rows."""
        numbers = np.where(np.isfinite(prepared.numbers), prepared.numbers.astype(np.float64), np.nan)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", RuntimeWarning)  # of columns without a value
            center, spread = np.nan_to_num(np.nanmedian(numbers, axis=0)), np.nan_to_num(np.nanstd(numbers, axis=0))
            low, high = np.nanquantile(numbers, [0.25, 0.75], axis=0) if numbers.size else (center, center)
        scale = np.nan_to_num(high - low) / 1.35
        scale = np.where(scale > 1e-12 * np.maximum(spread, 1e-30), scale, spread)
        codes = tuple(int(c) + 1 for c in prepared.codes.max(axis=0, initial=1))
        return cls(center, np.where(scale > 0, scale, 1.0), np.asarray(np.isnan(numbers).any(axis=0)), codes)

    @property
    def width(self) -> int:
        return len(self.center) + int(self.missing.sum()) + sum(self.codes)

    def apply(self, prepared: Prepared) -> Array:
        """The columns [N, width]: numbers, indicators of missing ones, categories."""
        numbers = prepared.numbers.astype(np.float64)
        unknown = np.isnan(numbers)
        x = np.clip((np.where(unknown, self.center, numbers) - self.center) / self.scale, -1e6, 1e6)
        x = x / np.sqrt(1 + (x / CLIP) ** 2)
        parts = [x, unknown[:, self.missing].astype(np.float64)]
        for i, count in enumerate(self.codes):
            code = np.where(prepared.codes[:, i] < count, prepared.codes[:, i], 1)
            parts.append(np.eye(count)[code])
        return np.concatenate(parts, axis=1)


class Linear:
    """The mean of linear models, one per fold.

    Args:
        weights: [folds, width, logits].
        bias: [folds, logits].
    """

    kind = "linear"

    def __init__(self, task: Task, design: Design, weights: Array, bias: Array) -> None:
        self.task, self.design, self.weights, self.bias = task, design, weights, bias

    def predict(self, prepared: Prepared) -> Array:
        x = self.design.apply(prepared)
        parts = [probabilities(x @ w + b, self.task) for w, b in zip(self.weights, self.bias, strict=True)]
        return np.mean(parts, axis=0)

    def predict_held_out(self, prepared: Prepared, folds: RowsOfFolds) -> Array:
        x = self.design.apply(prepared)
        found = np.full((len(x), self.task.outputs), np.nan)
        for rows, w, b in zip(folds, self.weights, self.bias, strict=True):
            found[rows] = probabilities(x[rows] @ w + b, self.task)
        return found

    def to_arrays(self) -> Arrays:
        d = self.design
        codes = np.array(d.codes, np.int64)
        return {
            "center": d.center,
            "scale": d.scale,
            "missing": d.missing.astype(np.uint8),
            "codes": codes,
            "weights": self.weights,
            "bias": self.bias,
        }

    def settings(self) -> Mapping[str, Any]:
        return {}

    @classmethod
    def from_arrays(cls, arrays: Arrays, settings: Mapping[str, Any], task: Task) -> Linear:
        """The one that was stored.

        Raises:
            RunError: The arrays are not of such a member.
        """
        try:
            codes = tuple(int(c) for c in arrays["codes"])
            design = Design(arrays["center"], arrays["scale"], arrays["missing"].astype(bool), codes)
            weights, bias = arrays["weights"], arrays["bias"]
            numbers = len(design.center)
            fits = design.scale.shape == design.missing.shape == (numbers,) and min(codes, default=1) > 0
            if not fits or weights.shape[1:] != (design.width, task.logits) or bias.shape != weights.shape[::2]:
                raise ValueError(f"weights {weights.shape} do not go with {design.width} columns")
        except (KeyError, ValueError, IndexError) as error:
            raise RunError(f"linear member: {error}") from error
        return cls(task, design, weights, bias)


def _solve(task: Task, x: Array, y: Array, weight: Array, strength: float) -> tuple[Array, Array]:
    if task.kind == "regression":
        spread = float(y.std()) or 1.0
        ridge = Ridge(alpha=1 / strength).fit(x, (y - y.mean()) / spread, sample_weight=weight)
        return ridge.coef_.reshape(-1, 1) * spread, np.atleast_1d(ridge.intercept_) * spread + y.mean()
    model = LogisticRegression(C=strength, max_iter=_ITERATIONS)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)  # what it has reached by then is judged like any other
        model.fit(x, y.astype(np.int64), sample_weight=weight)
    if task.kind == "binary":
        return model.coef_.T, model.intercept_
    # A class that has no row in this fold is never predicted.
    weights, bias = np.zeros((x.shape[1], task.outputs)), np.full(task.outputs, -30.0)
    if len(model.classes_) == 2:
        weights[:, model.classes_[1]], bias[model.classes_] = model.coef_[0], [0.0, model.intercept_[0]]
    else:
        weights[:, model.classes_], bias[model.classes_] = model.coef_.T, model.intercept_
    return weights, bias


def _single(task: Task, width: int, chosen: int) -> tuple[Array, Array]:
    """Where all rows are of one class: that one, nearly surely."""
    bias = np.full(task.logits, -_SURE)
    bias[chosen if task.kind == "multiclass" else 0] = _SURE if task.kind == "multiclass" or chosen else -_SURE
    return np.zeros((width, task.logits)), bias


def fit_linear(problem: Problem, metric: Metric, seconds: float | None, tried: int | None = None) -> Candidate:
    """The strength of regularisation that is best out of fold.

    Args:
        seconds: Strengths are tried as long as another one fits. None: all.
        tried: Instead: how many an earlier fit has tried.
    """
    start = perf_counter()
    task = problem.task
    designs = Design.of(problem.prepared)
    x = designs.apply(problem.prepared)
    judged = problem.judged()
    best: tuple[float, Array, Array, Array, float] | None = None
    count = 0
    for strength in _STRENGTHS[:tried]:
        spent = perf_counter() - start
        if tried is None and seconds is not None and count and spent * (count + 1) / count > seconds:
            break
        count += 1
        oof = problem.empty_oof()
        weights, biases = [], []
        rng = np.random.default_rng([problem.seed, 3])
        for fold in problem.folds:
            y, weight = problem.y[fold.train], problem.weight[fold.train]
            rows = rng.permutation(len(y))[:_MOST_ROWS]
            if task.kind != "regression" and len(np.unique(y[rows])) < 2:
                w, b = _single(task, x.shape[1], int(y[rows][0]))
            else:
                w, b = _solve(task, x[fold.train[rows]], y[rows], weight[rows], strength)
            weights.append(w)
            biases.append(b)
            oof[fold.valid] = probabilities(x[fold.valid] @ w + b, task)
        loss = metric.loss(problem.y[judged], oof[judged])
        if best is None or loss < best[0]:
            best = loss, oof, np.stack(weights), np.stack(biases), strength
    assert best is not None
    model = Linear(task, designs, best[2], best[3])
    return Candidate("linear", "linear", model, best[1], perf_counter() - start, {"C": best[4], "tried": count})
