"""Which members count, and how much: greedy selection on out-of-fold predictions (Caruana et al. 2004)."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from nasfast.automl.metrics import Metric
from nasfast.automl.problem import Array

_PICKS = 40
_MEMBERS = 12  # the best ones; what is behind them has never been picked
_ROWS = 30_000


def greedy_weights(predictions: Sequence[Array], y: Array, metric: Metric) -> tuple[Array, float]:
    """Weights of members, non-negative with sum 1, and the loss of their mean.

    Members are picked one by one, any of them more than once, always the one that makes the mean best; the picks up to
    the best mean count.

    Args:
        predictions: Out-of-fold predictions [N, outputs] of each member.
        y: Targets [N].
    """
    if len(y) > _ROWS:  # in the order of the folds a part would be a fold
        some = np.random.default_rng(0).permutation(len(y))[:_ROWS]
        predictions, y = [p[some] for p in predictions], y[some]
    alone = np.nan_to_num([metric.loss(y, p) for p in predictions], nan=np.inf)
    tried = np.argsort(alone, kind="stable")[:_MEMBERS]
    counts = np.zeros(len(predictions))
    total = np.zeros_like(predictions[0])
    best, kept = np.inf, counts.copy()
    for picks in range(1, _PICKS + 1):
        losses = np.nan_to_num([metric.loss(y, (total + predictions[i]) / picks) for i in tried], nan=np.inf)
        place = int(np.argmin(losses))
        chosen = tried[place]
        counts[chosen] += 1
        total = total + predictions[chosen]
        if losses[place] < best - 1e-12:
            best, kept = float(losses[place]), counts.copy()
        elif picks > 2 * kept.sum() + 5:
            break
    if not kept.sum():  # no prediction can be judged
        kept[tried[0]] = 1
    return kept / kept.sum(), best


def blend(predictions: Sequence[Array], weights: Array) -> Array:
    """The weighted mean [N, outputs] of members."""
    return np.sum([w * p for w, p in zip(weights, predictions, strict=True)], axis=0)
