"""Performance estimation: an architecture and a fidelity in, a score out."""

from __future__ import annotations

from typing import TYPE_CHECKING

from nasfast.utils.lazy import lazy_names

if TYPE_CHECKING:
    from nasfast.estimators.base import Estimate, Estimator, WarmStartEstimator
    from nasfast.estimators.inherit import InheritEstimator
    from nasfast.estimators.oneshot import OneShotEstimator
    from nasfast.estimators.rungs import RungEstimator
    from nasfast.estimators.table import TableEstimator
    from nasfast.estimators.train import Fidelity, TrainEstimator, TrainSettings
    from nasfast.estimators.zero_cost import ZeroCostEstimator

__all__ = [
    "Estimate",
    "Estimator",
    "Fidelity",
    "InheritEstimator",
    "OneShotEstimator",
    "RungEstimator",
    "TableEstimator",
    "TrainEstimator",
    "TrainSettings",
    "WarmStartEstimator",
    "ZeroCostEstimator",
]

__getattr__, __dir__ = lazy_names(
    __name__,
    {
        "Estimate": "nasfast.estimators.base",
        "Estimator": "nasfast.estimators.base",
        "Fidelity": "nasfast.estimators.train",
        "InheritEstimator": "nasfast.estimators.inherit",
        "WarmStartEstimator": "nasfast.estimators.base",
        "OneShotEstimator": "nasfast.estimators.oneshot",
        "RungEstimator": "nasfast.estimators.rungs",
        "TableEstimator": "nasfast.estimators.table",
        "TrainEstimator": "nasfast.estimators.train",
        "TrainSettings": "nasfast.estimators.train",
        "ZeroCostEstimator": "nasfast.estimators.zero_cost",
    },
)
