"""What an estimator is."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Protocol, runtime_checkable

from nasfast.spaces.base import Ancestors, Rows


@dataclass(frozen=True)
class Estimate:
    """What is known of an architecture.

    Attributes:
        score: What a search maximises: as a rule validation accuracy, a fraction from 0 to 1.
        metrics: Further numbers by name, such as test_accuracy (a fraction too) or a measured latency.
        uncertainty: Standard error of the score, in its unit; None where the estimator knows none.
        cost: What the estimate took, in FLOPs as the space counts them; None where nothing was computed.
    """

    score: float
    metrics: Mapping[str, float] = field(default_factory=dict)
    uncertainty: float | None = None
    cost: float | None = None

    def numbers(self) -> dict[str, float]:
        """Everything by name: score, metrics, and where they are known uncertainty and cost."""
        known = {"uncertainty": self.uncertainty, "cost": self.cost}
        return {"score": self.score, **self.metrics, **{name: v for name, v in known.items() if v is not None}}


class Estimator(Protocol):
    """Says what architectures of one space are worth."""

    @property
    def name(self) -> str:
        """For reports and messages."""

    def estimate(self, rows: Rows, fidelity: int | None = None) -> list[Estimate]:
        """Estimates of rows int64 [K, D].

        Args:
            fidelity: Epochs of training that an estimate may cost; None for as many as the estimator sees fit.
        """


@runtime_checkable
class StatefulEstimator(Protocol):
    """An estimator that answers from what it has estimated before, and has to be told of it after a stop."""

    @property
    def remember(self) -> bool:
        """Whether it does: False where every estimate stands alone."""

    def recall(self, rows: Rows, numbers: Sequence[Mapping[str, float]]) -> None:
        """Take in what :meth:`Estimate.numbers` gave for rows int64 [K, D], in the order of their estimates."""


@runtime_checkable
class WarmStartEstimator(Protocol):
    """An estimator that goes on from what it has computed for a row's ancestors, and has to be told of them."""

    def note_ancestors(self, row: tuple[int, ...], ancestors: Ancestors) -> None:
        """Say what a row was made from, before it is estimated; () for nothing."""
