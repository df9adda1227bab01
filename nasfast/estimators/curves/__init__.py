"""Learning curves: fits, extrapolation with uncertainty, a learned regressor, early termination."""

from __future__ import annotations

from typing import TYPE_CHECKING

from nasfast.utils.lazy import lazy_names

if TYPE_CHECKING:
    from nasfast.estimators.curves.ensemble import CurveEnsemble
    from nasfast.estimators.curves.families import DISTINCT, FAMILIES, Family
    from nasfast.estimators.curves.fit import Fit, fit_family
    from nasfast.estimators.curves.prediction import Prediction
    from nasfast.estimators.curves.regressor import CurveRegressor
    from nasfast.estimators.curves.stopper import CurveStopper

__all__ = [
    "DISTINCT",
    "FAMILIES",
    "FEWEST",
    "CurveEnsemble",
    "CurveRegressor",
    "CurveStopper",
    "Family",
    "Fit",
    "Prediction",
    "fit_family",
]

FEWEST = 3
"""Values that a curve must have before it can be extrapolated."""

__getattr__, __dir__ = lazy_names(
    __name__,
    {
        "CurveEnsemble": "nasfast.estimators.curves.ensemble",
        "CurveRegressor": "nasfast.estimators.curves.regressor",
        "CurveStopper": "nasfast.estimators.curves.stopper",
        "DISTINCT": "nasfast.estimators.curves.families",
        "FAMILIES": "nasfast.estimators.curves.families",
        "Family": "nasfast.estimators.curves.families",
        "Fit": "nasfast.estimators.curves.fit",
        "Prediction": "nasfast.estimators.curves.prediction",
        "fit_family": "nasfast.estimators.curves.fit",
    },
)
