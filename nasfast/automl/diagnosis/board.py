"""How sure the scores of a leaderboard are, and what each family could do alone."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from nasfast.automl.diagnosis.numbers import short
from nasfast.automl.ensemble import blend, greedy_weights
from nasfast.automl.members.base import Candidate
from nasfast.automl.metrics import Metric
from nasfast.automl.problem import Array

_DRAWS = 40
_MOST_ROWS = 5_000


class Draws:
    """Losses on rows drawn again: of all predictions on the same rows, so that differences can be told.

    Args:
        y: Targets [N].
    """

    def __init__(self, y: Array, metric: Metric, seed: int) -> None:
        rng = np.random.default_rng([seed, 14])
        rows = min(len(y), _MOST_ROWS)
        drawn = (rng.integers(0, len(y), rows) for _ in range(_DRAWS))
        self._draws = [draw for draw in drawn if len(np.unique(y[draw])) > 1]
        self._scale = np.sqrt(rows / len(y))  # an error falls as one over the root of the rows
        self._y, self._metric = y, metric

    def losses(self, p: Array) -> Array:
        """Of each draw."""
        return np.array([self._metric.loss(self._y[draw], p[draw]) for draw in self._draws])

    def error(self, losses: Array) -> float | None:
        """The standard error of a loss, or of a difference of two."""
        return short(losses.std(ddof=1) * self._scale) if len(losses) > 1 else None


def board(
    candidates: Sequence[Candidate], judged: Any, y: Array, p: Array, metric: Metric, seed: int
) -> dict[str, Any]:
    """Standard errors of candidates by name, and of each family its best ensemble against all together.

    Args:
        judged: Rows that ``y`` and ``p`` are of.
        p: Predictions of the whole ensemble.
    """
    draws = Draws(y, metric, seed)
    together, whole = draws.losses(p), metric.loss(y, p)
    errors = {c.name: draws.error(draws.losses(c.oof[judged])) for c in candidates}
    families = {}
    for family in dict.fromkeys(c.family for c in candidates):
        own = [c.oof[judged] for c in candidates if c.family == family]
        weights, _ = greedy_weights(own, y, metric)
        alone = blend(own, weights)
        losses = draws.losses(alone)
        loss = metric.loss(y, alone)
        families[family] = {
            "candidates": len(own),
            "score": short(metric.shown(loss)),
            "error": draws.error(losses),
            "behind": short(loss - whole),
            "behind_error": draws.error(losses - together),
        }
    return {"errors": errors, "families": families, "together": short(metric.shown(whole))}
