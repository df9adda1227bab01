"""Predictors by name."""

from __future__ import annotations

from nasfast.predictors.base import Predictor, PredictorName


def make_predictor(name: PredictorName, seed: int) -> Predictor:
    """A new predictor; ``seed`` is of its random numbers."""
    from nasfast.predictors.ensemble import EnsemblePredictor
    from nasfast.predictors.gaussian_process import GaussianProcessPredictor

    return EnsemblePredictor(seed=seed) if name == "ensemble" else GaussianProcessPredictor()
