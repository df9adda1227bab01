"""A learned regressor: from part of a curve and features of the architecture to the curve's last value."""

from __future__ import annotations

import warnings
from typing import Any, Literal

import numpy as np
from sklearn.exceptions import ConvergenceWarning
from sklearn.gaussian_process import GaussianProcessRegressor
from sklearn.gaussian_process.kernels import RBF, ConstantKernel, WhiteKernel
from sklearn.model_selection import GridSearchCV, KFold, cross_val_predict
from sklearn.preprocessing import StandardScaler
from sklearn.svm import NuSVR

from nasfast.errors import ConfigError, DataError, ShapeError
from nasfast.estimators.curves import FEWEST
from nasfast.estimators.curves.families import Floats
from nasfast.estimators.curves.prediction import Prediction
from nasfast.estimators.curves.seen import check_curves

FEWEST_TRIALS = 10
"""Finished trials that a regressor needs."""

_FOLDS = 5
_GRID = {"C": [1.0, 10.0, 100.0], "nu": [0.3, 0.6], "gamma": [0.003, 0.01, 0.03]}
_LEAST_STD = 1e-9


class CurveRegressor:
    """Predicts last values from finished trials: Baker, Gupta, Raskar, Naik, "Accelerating Neural Architecture Search
    using Performance Prediction", ICLR workshop 2018.

    Inputs are the values seen, their first and second differences, and the architecture's features, each standardised;
    the output is what the curve still gains. One model for each number of values seen, made when it is first needed.

    Args:
        kind: "svr", the paper's nu-support-vector regression, whose settings are cross-validated, and whose uncertainty
            is the spread of its errors out of fold; or "bayesian", a Gaussian process with its own uncertainty.
        seed: Of the folds.

    Raises:
        ConfigError: An unknown kind.
    """

    def __init__(self, kind: Literal["svr", "bayesian"] = "svr", seed: int = 0) -> None:
        if kind not in ("svr", "bayesian"):
            raise ConfigError(f'kind must be "svr" or "bayesian", got {kind!r}')
        self.kind, self.seed = kind, seed
        self._curves = np.zeros((0, 0))
        self._features = np.zeros((0, 0))
        self._models: dict[int, _Model] = {}

    def fit(self, curves: Floats, features: Floats | None = None) -> CurveRegressor:
        """Take finished trials.

        Args:
            curves: float64 [K, T], whose last column is what is to be predicted; NaN elsewhere is interpolated.
            features: float64 [K, F] of the architectures.

        Returns:
            Itself.

        Raises:
            ShapeError, DataError: Malformed, or fewer than FEWEST_TRIALS.
        """
        curves, _ = check_curves(curves, None)
        if len(curves) < FEWEST_TRIALS:
            raise DataError(f"a regressor needs at least {FEWEST_TRIALS} finished trials, got {len(curves)}")
        if np.isnan(curves[:, -1]).any():
            raise DataError(f"curve {int(np.isnan(curves[:, -1]).argmax())} has no last value: it is not finished")
        self._features = _check_features(features, len(curves))
        self._curves, self._models = _fill(curves), {}
        return self

    def predict(self, partial: Floats, features: Floats | None = None) -> Prediction:
        """Distributions of the last values of curves of which the first n are seen.

        Args:
            partial: float64 [K, n], 3 <= n < T.
            features: float64 [K, F], if it was fitted with them.

        Returns:
            A prediction of K curves and one target.

        Raises:
            ShapeError, DataError: Malformed, of another size than was fitted, or nothing was fitted.
        """
        if not len(self._curves):
            raise DataError("a regressor predicts after fit(curves, features)")
        partial, _ = check_curves(partial, None)
        seen, last = partial.shape[1], self._curves.shape[1]
        if not FEWEST <= seen < last:
            raise ShapeError(f"partial must have {FEWEST} to {last - 1} columns, got {seen}")
        extra = _check_features(features, len(partial))
        if extra.shape[1] != self._features.shape[1]:
            raise ShapeError(f"features must be [K, {self._features.shape[1]}] as in fit, got {list(extra.shape)}")
        if seen not in self._models:
            inputs = _inputs(self._curves[:, :seen], self._features)
            self._models[seen] = _Model(self.kind, self.seed, inputs, self._curves[:, -1] - self._curves[:, seen - 1])
        partial = _fill(partial)
        centres, scales = self._models[seen].predict(_inputs(partial, extra))
        return Prediction((partial[:, -1:] + centres)[:, None], scales[:, None])


class _Model:
    """The model for one number of values seen."""

    def __init__(self, kind: str, seed: int, inputs: Floats, gains: Floats) -> None:
        self.kind = kind
        self.scaler = StandardScaler().fit(inputs)
        self.centre, self.unit = float(gains.mean()), max(float(gains.std()), _LEAST_STD)
        x, y = self.scaler.transform(inputs), (gains - self.centre) / self.unit
        self.errors = np.zeros(0)
        self.model: Any
        seed %= 2**32  # scikit-learn takes no larger ones
        if kind == "svr":
            folds = KFold(_FOLDS, shuffle=True, random_state=seed)
            search = GridSearchCV(NuSVR(), _GRID, cv=folds, scoring="neg_mean_absolute_error").fit(x, y)
            self.model = search.best_estimator_
            self.errors = np.sort(y - cross_val_predict(self.model, x, y, cv=folds))
        else:
            kernel = ConstantKernel(1.0, (1e-3, 1e4)) * RBF(np.sqrt(x.shape[1]), (0.1, 1e4)) + WhiteKernel(
                0.1, (1e-8, 10)
            )
            self.model = GaussianProcessRegressor(kernel, random_state=seed)
            with warnings.catch_warnings():
                # A length or a noise at its bound is a straight line or exact data, and no failure.
                warnings.simplefilter("ignore", ConvergenceWarning)
                self.model.fit(x, y)

    def predict(self, inputs: Floats) -> tuple[Floats, Floats]:
        """Centres and scales of gains, float64 [K, S] each."""
        x = self.scaler.transform(inputs)
        if self.kind == "svr":
            centres = self.model.predict(x)[:, None] + self.errors
            # Silverman's rule of thumb for the width of a kernel.
            scales = np.full(centres.shape, 1.06 * max(self.errors.std(), _LEAST_STD) * len(self.errors) ** -0.2)
        else:
            mean, std = self.model.predict(x, return_std=True)
            centres, scales = mean[:, None], np.maximum(std, _LEAST_STD)[:, None]
        return self.centre + self.unit * centres, self.unit * scales


def _inputs(curves: Floats, features: Floats) -> Floats:
    return np.concatenate([curves, np.diff(curves), np.diff(curves, 2), features], 1)


def _check_features(features: Floats | None, count: int) -> Floats:
    if features is None:
        return np.zeros((count, 0))
    features = np.asarray(features, float)
    if features.ndim != 2 or len(features) != count:
        raise ShapeError(f"features must be [{count}, F], one row for each curve, got {list(features.shape)}")
    if not np.isfinite(features).all():
        raise DataError("features must be finite")
    return features


def _fill(curves: Floats) -> Floats:
    """NaN by linear interpolation; beyond the first and the last value, by that value."""
    places = np.arange(curves.shape[1])
    filled = curves.copy()
    for row in (filled[i] for i in np.flatnonzero(np.isnan(curves).any(1))):
        there = ~np.isnan(row)
        row[:] = np.interp(places, places[there], row[there])
    return filled
