"""A Gaussian process."""

from __future__ import annotations

import warnings

import numpy as np
from sklearn.exceptions import ConvergenceWarning
from sklearn.gaussian_process import GaussianProcessRegressor
from sklearn.gaussian_process.kernels import RBF, ConstantKernel, WhiteKernel

from nasfast.errors import ConfigError
from nasfast.predictors.base import Features, Scores, standardise


class GaussianProcessPredictor:
    """The posterior of a Gaussian process whose covariance falls with the number of features that differ.

    Rasmussen, Williams, "Gaussian Processes for Machine Learning", MIT Press 2006. On indicators the squared distance
    counts those that differ, so the squared exponential is a kernel on architectures. Scale, length and noise maximise
    the marginal likelihood. The deviation is that of the score itself, without the noise of measuring it.
    """

    def __init__(self) -> None:
        self.process: GaussianProcessRegressor | None = None
        self.mean, self.deviation = 0.0, 1.0

    def fit(self, features: Features, scores: Scores) -> None:
        """See :class:`nasfast.predictors.Predictor`."""
        target, self.mean, self.deviation = standardise(scores)
        length = RBF(np.sqrt(features.shape[1]) / 2 + 1e-3, (0.1, 100.0))
        kernel = ConstantKernel(1.0, (1e-2, 1e2)) * length + WhiteKernel(1e-2, (1e-5, 1.0))
        self.process = GaussianProcessRegressor(kernel)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", ConvergenceWarning)  # a parameter at its bound is as good as any there
            self.process.fit(features.astype(float), target)

    def predict(self, features: Features) -> tuple[Scores, Scores]:
        """See :class:`nasfast.predictors.Predictor`."""
        if self.process is None:
            raise ConfigError("the Gaussian process was asked before it was fitted")
        mean, deviation = self.process.predict(features.astype(float), return_std=True)
        noise = float(self.process.kernel_.k2.noise_level)
        own = np.sqrt(np.maximum(deviation**2 - noise, 1e-12))
        return self.mean + self.deviation * mean, self.deviation * own
