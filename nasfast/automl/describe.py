"""What is kept beside a model, for people and for another fit."""

from __future__ import annotations

from typing import Any

from nasfast.automl.clock import Deadline
from nasfast.automl.estimate import Estimate
from nasfast.automl.metrics import Metric
from nasfast.automl.problem import Problem
from nasfast.automl.search import Found


def describe(
    found: Found,
    metric: Metric,
    estimate: Estimate,
    problem: Problem,
    reason: str,
    deadline: Deadline,
) -> dict[str, Any]:
    """Scores, the leaderboard and the trials, as JSON.

    Args:
        reason: Why the task is what it is.
    """
    board = sorted(zip(found.losses, found.weights, found.candidates, strict=True), key=lambda row: row[0])
    return {
        "metric": metric.name,
        "score": metric.shown(estimate.loss),
        "standard_error": estimate.error,
        "optimism": estimate.optimism,
        "rows": len(problem.y),
        "folds": len(problem.folds),
        "task_reason": reason,
        "seed": problem.seed,
        "seconds": round(deadline.spent(), 2),
        "leaderboard": [
            {
                "name": c.name,
                "family": c.family,
                "score": metric.shown(loss),
                "weight": float(weight),
                "seconds": round(c.seconds, 2),
                "settings": dict(c.notes),
            }
            for loss, weight, c in board
        ],
        "trials": [trial.to_json() for trial in found.trials],
    }
