"""Predictors: scores of architectures that were not evaluated, from those that were, with an uncertainty."""

from __future__ import annotations

from typing import TYPE_CHECKING

from nasfast.utils.lazy import lazy_names

if TYPE_CHECKING:
    from nasfast.predictors.base import Predictor
    from nasfast.predictors.encoding import Encoder, paths_of
    from nasfast.predictors.ensemble import EnsemblePredictor
    from nasfast.predictors.gaussian_process import GaussianProcessPredictor
    from nasfast.predictors.registry import make_predictor

__all__ = [
    "Encoder",
    "EnsemblePredictor",
    "GaussianProcessPredictor",
    "Predictor",
    "make_predictor",
    "paths_of",
]

__getattr__, __dir__ = lazy_names(
    __name__,
    {
        "Encoder": "nasfast.predictors.encoding",
        "EnsemblePredictor": "nasfast.predictors.ensemble",
        "GaussianProcessPredictor": "nasfast.predictors.gaussian_process",
        "Predictor": "nasfast.predictors.base",
        "make_predictor": "nasfast.predictors.registry",
        "paths_of": "nasfast.predictors.encoding",
    },
)
