"""Predictors: scores of architectures that were not evaluated, from those that were, with an uncertainty."""

from nasfast.predictors.base import Predictor
from nasfast.predictors.encoding import Encoder, paths_of
from nasfast.predictors.ensemble import EnsemblePredictor
from nasfast.predictors.gaussian_process import GaussianProcessPredictor
from nasfast.predictors.registry import make_predictor

__all__ = ["Encoder", "EnsemblePredictor", "GaussianProcessPredictor", "Predictor", "make_predictor", "paths_of"]
