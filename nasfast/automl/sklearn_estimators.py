"""`nasfast fit` as estimators of scikit-learn."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from time import monotonic
from typing import Any, Self

import numpy as np
from sklearn.base import BaseEstimator, ClassifierMixin, RegressorMixin
from sklearn.inspection import permutation_importance
from sklearn.utils.multiclass import check_classification_targets
from sklearn.utils.validation import check_is_fitted, column_or_1d, validate_data

from nasfast.automl.fit import FitResult, FitSettings, fit_table
from nasfast.automl.folder import load_model, save_model
from nasfast.automl.model import FittedModel
from nasfast.config.budget import Budget
from nasfast.errors import RunError
from nasfast.tables import read_table
from nasfast.utils.progress import Progress

_TARGET = "target"


def _is_frame(x: Any) -> bool:
    return hasattr(x, "columns") and hasattr(x, "shape")


class _TableEstimator(BaseEstimator):
    """What both have in common.

    Args:
        budget: Of time, or of trials ("20 trials": the same model every time).
        metric: By name; None: that of the task.
        types: Kinds of columns by name, where the guess is wrong.
        random_state: Seed.
        threads: CPU threads; None: those of torch.
        verbose: Show progress.
    """

    _task = "auto"

    def __init__(
        self,
        budget: str = "5m",
        metric: str | None = None,
        types: Mapping[str, str] | None = None,
        random_state: int | None = 0,
        threads: int | None = None,
        verbose: bool = False,
    ) -> None:
        self.budget, self.metric, self.types = budget, metric, types
        self.random_state, self.threads, self.verbose = random_state, threads, verbose

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.input_tags.allow_nan = True
        tags.input_tags.string = True
        tags.input_tags.categorical = True
        tags.non_deterministic = Budget.parse(self.budget).timed
        return tags

    def _checked(self, x: Any, reset: bool) -> Any:
        """A frame as it is, anything else as an array [N, features]."""
        if _is_frame(x) and not isinstance(x, np.ndarray):
            validate_data(self, x, skip_check_array=True, reset=reset)
            return x
        return validate_data(
            self, x, dtype=None, ensure_all_finite="allow-nan", ensure_min_samples=2 if reset else 1, reset=reset
        )

    def _table(self, x: Any) -> Any:
        return read_table(x).data

    def _fit(self, x: Any, y: list[Any], sample_weight: Any, budget: str | None) -> FitResult:
        start = monotonic()
        table = self._table(x)
        name = _free_name(_TARGET, table.column_names)
        table = table.append_column(name, [y])
        weight = None
        if sample_weight is not None:
            weight = _free_name("weight", table.column_names)
            table = table.append_column(weight, [np.broadcast_to(np.asarray(sample_weight, float), len(y)).copy()])
        settings = FitSettings(
            name,
            Budget.parse(budget or self.budget),
            self._task if self._task != "auto" else "auto",
            self.metric,
            dict(self.types or {}),
            weight=weight,
            seed=int(self.random_state or 0),
            threads=self.threads,
        )
        result = fit_table(read_table(table), settings, None, start, Progress(quiet=not self.verbose))
        self.model_: FittedModel = result.model
        return result

    def leaderboard(self) -> list[dict[str, Any]]:
        """Every candidate with its score out of fold, weight and seconds, the best first."""
        check_is_fitted(self)
        board: list[dict[str, Any]] = self.model_.about["leaderboard"]
        return board

    def feature_importance(self, X: Any, y: Any, repeats: int = 5) -> dict[str, tuple[float, float]]:
        """How much worse the score gets when a column is shuffled: mean and standard error by column."""
        check_is_fitted(self)
        found = permutation_importance(self, X, y, n_repeats=repeats, random_state=int(self.random_state or 0))
        names = list(X.columns) if _is_frame(X) else [f"x{i}" for i in range(np.shape(X)[1])]
        error = found.importances_std / np.sqrt(repeats)
        return {n: (float(m), float(e)) for n, m, e in zip(names, found.importances_mean, error, strict=True)}

    def save(self, folder: str | os.PathLike[str]) -> None:
        """Write the model, for `load`, `nasfast predict` and `nasfast serve`."""
        check_is_fitted(self)
        save_model(self.model_, Path(folder))


class TableClassifier(ClassifierMixin, _TableEstimator):
    """A classifier of rows: networks, boosted trees and a linear model, weighed out of fold."""

    def fit(self, X: Any, y: Any, sample_weight: Any = None, budget: str | None = None) -> Self:
        """Fit to a table [N, features] and classes [N].

        Args:
            X: A frame of pandas or polars, or an array; numbers, texts, dates, missing values.
            sample_weight: [N].
            budget: In place of that of the estimator.
        """
        x = self._checked(X, reset=True)
        y = column_or_1d(y, warn=True)
        check_classification_targets(y)
        _same_length(x, y)
        self.classes_, codes = np.unique(y, return_inverse=True)
        if len(self.classes_) < 2:
            raise ValueError(f"classifier needs at least two classes in y, got one class: {self.classes_[0]!r}")
        self._task = "binary" if len(self.classes_) == 2 else "multiclass"
        # Classes go by their number, so that any kind of value can be one; the model names them as people do.
        self._fit(x, [str(code) for code in codes], sample_weight, budget)
        self._order = [int(name) for name in self.model_.task.classes]
        names = tuple(str(self.classes_[code]) for code in self._order)
        self.model_ = replace(self.model_, target=replace(self.model_.target, classes=names))
        return self

    def predict_proba(self, X: Any) -> Any:
        """Probabilities [N, classes], in the order of ``classes_``."""
        check_is_fitted(self)
        found = self.model_.predict(self._table(self._checked(X, reset=False)))
        out = np.zeros((len(found), len(self.classes_)))
        out[:, self._order] = found
        return out

    def predict(self, X: Any) -> Any:
        """Classes [N]."""
        check_is_fitted(self)
        return self.classes_[self.predict_proba(X).argmax(axis=1)]

    @classmethod
    def load(cls, folder: str | os.PathLike[str]) -> Self:
        """One that `save` or `nasfast fit` wrote; its classes are texts."""
        made = cls()
        made.model_ = load_model(folder)
        made.classes_ = np.array(made.model_.task.classes)
        made._order = list(range(len(made.classes_)))
        return made


class TableRegressor(RegressorMixin, _TableEstimator):
    """A regressor of rows: networks, boosted trees and a linear model, weighed out of fold."""

    _task = "regression"

    def fit(self, X: Any, y: Any, sample_weight: Any = None, budget: str | None = None) -> Self:
        """Fit to a table [N, features] and numbers [N]; see :meth:`TableClassifier.fit`."""
        x = self._checked(X, reset=True)
        y = column_or_1d(np.asarray(y, dtype=np.float64), warn=True)
        if not np.isfinite(y).all():
            raise ValueError("y must hold finite numbers, got NaN or infinity")
        _same_length(x, y)
        self._fit(x, list(map(float, y)), sample_weight, budget)
        return self

    def predict(self, X: Any) -> Any:
        """Numbers [N]."""
        check_is_fitted(self)
        return self.model_.predict(self._table(self._checked(X, reset=False)))[:, 0]

    @classmethod
    def load(cls, folder: str | os.PathLike[str]) -> Self:
        """One that `save` or `nasfast fit` wrote.

        Raises:
            RunError: It cannot be read, or predicts classes.
        """
        made = cls()
        made.model_ = load_model(folder)
        if made.model_.task.classes:
            raise RunError(f"{folder} predicts classes: load it by TableClassifier")
        return made


def _same_length(x: Any, y: Any) -> None:
    if x.shape[0] != len(y):
        raise ValueError(f"X has {x.shape[0]} rows and y {len(y)}: expected the same number")


def _free_name(name: str, taken: list[str]) -> str:
    while name in taken:
        name += "_"
    return name
