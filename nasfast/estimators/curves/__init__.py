"""Learning curves: fits, extrapolation with uncertainty, a learned regressor, early termination."""

from nasfast.estimators.curves.ensemble import CurveEnsemble
from nasfast.estimators.curves.families import DISTINCT, FAMILIES, Family
from nasfast.estimators.curves.fit import Fit, fit_family
from nasfast.estimators.curves.prediction import Prediction
from nasfast.estimators.curves.regressor import CurveRegressor
from nasfast.estimators.curves.stopper import CurveStopper

__all__ = [
    "DISTINCT",
    "FAMILIES",
    "CurveEnsemble",
    "CurveRegressor",
    "CurveStopper",
    "Family",
    "Fit",
    "Prediction",
    "fit_family",
]
