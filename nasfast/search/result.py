"""What every kind of run comes back with."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from nasfast.training.config import RetrainResult
from nasfast.utils.numbers import metric_text, percent_text


@dataclass(kw_only=True)
class RunResult:
    """What a run has found; each kind of run has more.

    Attributes:
        path: The run folder.
        was_finished: Nothing was left to do.
    """

    path: Path
    was_finished: bool = False

    @property
    def report(self) -> Path:
        """The page that :func:`nasfast.build_report` writes."""
        return self.path / "report.html"

    def lines(self) -> list[str]:
        """The result as a person reads it, a line each."""
        raise NotImplementedError

    def __str__(self) -> str:
        return "\n".join(self.lines())


@dataclass(kw_only=True)
class FoundInSpace(RunResult):
    """What a run has found that compares architectures of a space by evaluations.

    Attributes:
        space: What was searched.
        best: The best trial that keeps the constraints.
        front: Trials that no other dominates, the best first objective first.
        evaluations: How many architectures were evaluated.
        failed: How many could not be; on workers alone.
        results: Retraining results by label; empty without retraining.
    """

    space: Any
    best: Any
    front: list[Any]
    evaluations: int
    failed: int = 0
    results: dict[str, RetrainResult] = field(default_factory=dict)

    def lines(self) -> list[str]:
        failed = f", {self.failed} failed" if self.failed else ""
        metrics = [f"{name} {metric_text(name, value)}" for name, value in self.best.metrics.items()]
        found = [
            f"searched   {self.space.name}, {self.evaluations} evaluations{failed}",
            f"best       {self.space.decode(self.best.row)}",
            "           " + ", ".join(metrics),
        ]
        if len(self.front) > 1:
            found.append(f"front      {len(self.front)} architectures, in {self.path / 'architectures.json'}")
        return found + retraining_table(list(self.results.values()))


def retraining_table(results: list[RetrainResult]) -> list[str]:
    """Trained networks, a line each under a line of headings; nothing where there are none."""
    if not results:
        return []
    lines = [f"{'network':<10} {'test accuracy':>13} {'test loss':>10} {'parameters':>12} {'seconds':>8}"]
    for row in results:
        accuracy = percent_text(row.test_acc)
        lines.append(f"{row.label:<10} {accuracy:>13} {row.test_loss:>10.4f} {row.params:>12,} {row.seconds:>8.1f}")
    return lines
