"""Metrics of predictions, as losses: less is better."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.stats import rankdata
from sklearn.metrics import (
    average_precision_score,
    balanced_accuracy_score,
    cohen_kappa_score,
    f1_score,
    matthews_corrcoef,
)

from nasfast.automl.task import Task
from nasfast.errors import ConfigError
from nasfast.utils.suggest import must_be_one_of

Array = NDArray[np.float64]
_SMALLEST = 1e-15


@dataclass(frozen=True)
class Metric:
    """A metric by its usual name.

    Attributes:
        tasks: Kinds of task it is for.
        loss: Of targets [N] and predictions [N, outputs]; less is better.
        shown: The usual value of a loss (1 - loss of an accuracy).
    """

    name: str
    tasks: tuple[str, ...]
    loss: Callable[[Array, Array], float]
    greater_is_better: bool = False

    def shown(self, loss: float) -> float:
        """The value as people know it."""
        return 1 - loss if self.greater_is_better else loss


def _log_loss(y: Array, p: Array) -> float:
    return float(-np.log(np.maximum(p[np.arange(len(y)), y.astype(np.int64)], _SMALLEST)).mean())


def _area(positive: NDArray[np.bool_], scores: Array) -> float:
    """Area under the ROC curve, by ranks: ensembles ask for it thousands of times."""
    ones = int(positive.sum())
    zeros = len(positive) - ones
    if not ones or not zeros:
        return 0.5
    return float((rankdata(scores)[positive].sum() - ones * (ones + 1) / 2) / (ones * zeros))


def _auc(y: Array, p: Array) -> float:
    return 1 - _area(y == 1, p[:, 1])


def _auc_one_to_rest(y: Array, p: Array) -> float:
    return 1 - float(np.mean([_area(y == c, p[:, int(c)]) for c in np.unique(y)]))


def _of_classes(score: Callable[[Array, NDArray[np.int64]], float]) -> Callable[[Array, Array], float]:
    return lambda y, p: 1 - float(score(y, p.argmax(axis=1)))


def _macro_f1(y: Array, chosen: NDArray[np.int64]) -> float:
    return float(f1_score(y, chosen, average="macro", zero_division=0))


def _accuracy(y: Array, chosen: NDArray[np.int64]) -> float:
    return float((y == chosen).mean())


def _r2(y: Array, p: Array) -> float:
    spread = float(((y - y.mean()) ** 2).sum())
    return float(((y - p[:, 0]) ** 2).sum()) / spread if spread > 0 else float((y != p[:, 0]).any())


_CLASSES = ("binary", "multiclass")
METRICS = {
    m.name: m
    for m in (
        Metric("roc_auc", ("binary",), _auc, greater_is_better=True),
        Metric("roc_auc_ovr", ("multiclass",), _auc_one_to_rest, greater_is_better=True),
        Metric(
            "pr_auc", ("binary",), lambda y, p: 1 - float(average_precision_score(y, p[:, 1])), greater_is_better=True
        ),
        Metric("log_loss", _CLASSES, _log_loss),
        Metric("brier", ("binary",), lambda y, p: float(((p[:, 1] - y) ** 2).mean())),
        Metric("accuracy", _CLASSES, _of_classes(_accuracy), greater_is_better=True),
        Metric("balanced_accuracy", _CLASSES, _of_classes(balanced_accuracy_score), greater_is_better=True),
        Metric("f1_macro", _CLASSES, _of_classes(_macro_f1), greater_is_better=True),
        Metric("mcc", _CLASSES, _of_classes(matthews_corrcoef), greater_is_better=True),
        Metric("kappa", _CLASSES, _of_classes(cohen_kappa_score), greater_is_better=True),
        Metric("rmse", ("regression",), lambda y, p: float(np.sqrt(((y - p[:, 0]) ** 2).mean()))),
        Metric("mae", ("regression",), lambda y, p: float(np.abs(y - p[:, 0]).mean())),
        Metric("r2", ("regression",), _r2, greater_is_better=True),
        Metric(
            "rmsle",
            ("regression",),
            lambda y, p: float(np.sqrt(((np.log1p(np.maximum(y, 0)) - np.log1p(np.maximum(p[:, 0], 0))) ** 2).mean())),
        ),
    )
}
"""Metrics by name."""

DEFAULTS = {"binary": "roc_auc", "multiclass": "log_loss", "regression": "rmse"}
"""The metric of a kind of task where none was asked for."""


def metric_for(task: Task, name: str | None) -> Metric:
    """The metric of a task.

    Raises:
        ConfigError: Unknown, or for another kind of task.
    """
    known = [m.name for m in METRICS.values() if task.kind in m.tasks]
    name = name or DEFAULTS[task.kind]
    if name not in known:
        raise ConfigError(f"--metric of a {task.kind} task {must_be_one_of(name, known)}")
    return METRICS[name]
