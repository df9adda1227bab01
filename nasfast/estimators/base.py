"""What an estimator is."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Protocol

from nasfast.spaces.base import Rows


@dataclass(frozen=True)
class Estimate:
    """What is known of an architecture.

    Attributes:
        score: What a search maximises: validation accuracy, as a rule in percent.
        metrics: Further numbers by name, such as test_accuracy or a measured latency.
    """

    score: float
    metrics: Mapping[str, float] = field(default_factory=dict)


class Estimator(Protocol):
    """Says what architectures of one space are worth."""

    @property
    def name(self) -> str:
        """For reports and messages."""

    def estimate(self, rows: Rows, budget: int | None = None) -> list[Estimate]:
        """Estimates of rows int64 [K, D].

        Args:
            budget: Epochs of training that an estimate may cost; None for as many as the estimator sees fit.
        """
