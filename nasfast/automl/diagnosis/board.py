"""How sure the scores of a leaderboard are, and what each family could do alone."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from nasfast.automl.calibrate import best_temperature, sharpen
from nasfast.automl.diagnosis.numbers import short
from nasfast.automl.ensemble import blend, greedy_weights
from nasfast.automl.members.base import Candidate
from nasfast.automl.metrics import Metric
from nasfast.automl.problem import Array
from nasfast.automl.task import Task

_DRAWS = 30
_MOST_ROWS = 2_000
_MOST_CHOOSING = 2_000


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
    candidates: Sequence[Candidate], judged: Any, y: Array, p: Array, metric: Metric, seed: int, task: Task
) -> dict[str, Any]:
    """Standard errors of candidates by name, and ensembles of each family alone and without it, against the whole one.

    Args:
        judged: Rows that ``y`` and ``p`` are of.
        p: Predictions of the whole ensemble.
    """
    draws = Draws(y, metric, seed)
    together, whole = draws.losses(p), metric.loss(y, p)
    choosing = np.sort(np.random.default_rng([seed, 15]).permutation(len(y))[:_MOST_CHOOSING])

    def against(chosen: Sequence[Candidate]) -> dict[str, Any]:
        own = [c.oof[judged] for c in chosen]
        mean = blend(own, greedy_weights([o[choosing] for o in own], y[choosing], metric)[0])
        if task.classes:  # as the whole ensemble has it
            mean = sharpen(mean, best_temperature(mean, y))
        losses, loss = draws.losses(mean), metric.loss(y, mean)
        return {
            "candidates": len(chosen),
            "score": short(metric.shown(loss)),
            "error": draws.error(losses),
            "behind": short(loss - whole),
            "behind_error": draws.error(losses - together),
        }

    families = list(dict.fromkeys(c.family for c in candidates))
    searched = [f for f in families if f in ("boosting", "network")]
    return {
        "errors": {c.name: draws.error(draws.losses(c.oof[judged])) for c in candidates},
        "families": {f: against([c for c in candidates if c.family == f]) for f in families},
        "without": {f: against(_others(candidates, f)) for f in searched if _others(candidates, f)},
        "together": short(metric.shown(whole)),
    }


def _others(candidates: Sequence[Candidate], family: str) -> list[Candidate]:
    """Those of other families, without the constant, which is never part of an ensemble."""
    return [c for c in candidates if c.family not in (family, "constant")]
