"""Performance estimation: an architecture and a budget in, a score out."""

from nasfast.estimators.base import Estimate, Estimator, Inheriting
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
    "Inheriting",
    "OneShotEstimator",
    "RungEstimator",
    "TableEstimator",
    "TrainEstimator",
    "TrainSettings",
    "ZeroCostEstimator",
]
