"""Performance estimation: an architecture and a budget in, a score out."""

from nasfast.estimators.base import Estimate, Estimator
from nasfast.estimators.oneshot import OneShotEstimator
from nasfast.estimators.table import TableEstimator

__all__ = ["Estimate", "Estimator", "OneShotEstimator", "TableEstimator"]
