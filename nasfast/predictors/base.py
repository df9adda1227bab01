"""What a predictor is: it learns scores of architectures, and says how sure it is of others."""

from __future__ import annotations

from typing import Literal, Protocol

import numpy as np
from numpy.typing import NDArray

Features = NDArray[np.float32]
Scores = NDArray[np.float64]
PredictorName = Literal["ensemble", "gp"]


class Predictor(Protocol):
    """Regression with an uncertainty."""

    def fit(self, features: Features, scores: Scores) -> None:
        """Learn from scratch.

        Args:
            features: float32 [K, F], K at least 2.
            scores: float64 [K], finite.
        """

    def predict(self, features: Features) -> tuple[Scores, Scores]:
        """Mean and standard deviation of the score, each float64 [K], of features float32 [K, F]."""


def standardise(scores: Scores) -> tuple[Scores, float, float]:
    """Scores with mean 0 and deviation 1, and the mean and deviation that they had (1 where all are equal)."""
    mean, deviation = float(scores.mean()), float(scores.std())
    deviation = deviation if deviation > 1e-12 * max(1.0, abs(mean)) else 1.0
    return (scores - mean) / deviation, mean, deviation
