"""What a black-box search is about: a space, an estimator, objectives and constraints."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np

from nasfast.config.objectives import Constraint, Objective, total_violation
from nasfast.errors import ConfigError
from nasfast.estimators.base import Estimator
from nasfast.estimators.latency import LatencyTable
from nasfast.search.history import Trial
from nasfast.spaces.base import Space
from nasfast.strategies.base import Values

COSTS = ("params", "flops")
"""Metrics that every space can give before anything is estimated."""


@dataclass(frozen=True)
class FailedTrial:
    """An architecture that was asked for, and could not be evaluated.

    Attributes:
        row: Its choices.
        fidelity: Epochs of training that it was given.
        error: Why.
    """

    row: tuple[int, ...]
    fidelity: int | None
    error: str


@dataclass
class Problem:
    """What is searched, and for what.

    Attributes:
        fidelity: Epochs of training that one estimate may cost; None leaves it to the estimator.
        latency: Adds the metric "latency", in milliseconds.
        costs: Add parameters and FLOPs to the metrics even where no objective or constraint needs them.
        num_classes, image_size: Of the task, for the costs.
    """

    space: Space
    estimator: Estimator
    objectives: tuple[Objective, ...] = (Objective("score"),)
    constraints: tuple[Constraint, ...] = ()
    fidelity: int | None = None
    costs: bool = True
    latency: LatencyTable | None = None
    num_classes: int = 10
    image_size: int | None = None
    _needs_costs: bool = field(init=False, default=False)

    def __post_init__(self) -> None:
        if not self.objectives:
            raise ConfigError("a search needs at least one objective")
        wanted = {objective.metric for objective in self.objectives} | {limit.metric for limit in self.constraints}
        self._needs_costs = self.costs or bool(wanted & set(COSTS))

    def known_before(self, row: Sequence[int]) -> dict[str, float]:
        """Metrics that need no estimate."""
        known: dict[str, float] = {}
        if self._needs_costs:
            cost = self.space.cost(row, self.num_classes, size=self.image_size)
            known |= {"params": cost.params, "flops": cost.flops}
        if self.latency is not None:
            known["latency"] = self.latency.of(self.space, row, self.num_classes, self.image_size)
        return known

    def excluded(self, metrics: dict[str, float]) -> float:
        """How far the constraints on the metrics that are known so far are broken."""
        return total_violation([c for c in self.constraints if c.metric in metrics], metrics)

    def values(self, trials: Sequence[Trial]) -> Values:
        """Objectives of trials, larger is better: float64 [K, M]."""
        found = [[objective.value(trial.metrics) for objective in self.objectives] for trial in trials]
        return np.array(found, np.float64).reshape(len(trials), len(self.objectives))
