"""How good a model is, how sure that is, and how much of it is luck of having chosen."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from nasfast.automl.ensemble import blend, greedy_weights
from nasfast.automl.metrics import Metric
from nasfast.automl.problem import Array

_RESAMPLES = 50
_HALVES = 3
_MOST_ROWS = 20_000
_MOST_CHOOSING = 4_000


@dataclass(frozen=True)
class Estimate:
    """A loss out of fold, its standard error, and the optimism that is to be added to it."""

    loss: float
    error: float
    optimism: float


def standard_error(y: Array, p: Array, metric: Metric, seed: int) -> float:
    """Of a metric, by drawing rows again (Efron's bootstrap); of a large table, from a part of it."""
    rng = np.random.default_rng([seed, 7])
    rows = min(len(y), _MOST_ROWS)
    losses = []
    for _ in range(_RESAMPLES):
        drawn = rng.integers(0, len(y), rows)
        if len(np.unique(y[drawn])) > 1:
            losses.append(metric.loss(y[drawn], p[drawn]))
    return float(np.std(losses, ddof=1) * np.sqrt(rows / len(y))) if len(losses) > 1 else float("nan")


def choice_optimism(predictions: Sequence[Array], y: Array, metric: Metric, seed: int) -> float:
    """How much better an ensemble looks on the rows that chose its weights than on others; at least 0.

    Weights are chosen on one half of the rows and judged on both, several times.
    """
    rng = np.random.default_rng([seed, 8])
    gaps = []
    order = np.arange(len(y))
    for _ in range(_HALVES):
        order = rng.permutation(len(y))[: 2 * _MOST_CHOOSING]
        for chosen, other in ((order[::2], order[1::2]), (order[1::2], order[::2])):
            if len(np.unique(y[chosen])) < 2 or len(np.unique(y[other])) < 2:
                continue
            weights, own = greedy_weights([p[chosen] for p in predictions], y[chosen], metric)
            gaps.append(metric.loss(y[other], blend([p[other] for p in predictions], weights)) - own)
    # Among candidates that are nearly as good, the gap falls as the root of the rows that choose.
    return max(float(np.mean(gaps)) * float(np.sqrt(len(order) / 2 / len(y))), 0.0) if gaps else 0.0
