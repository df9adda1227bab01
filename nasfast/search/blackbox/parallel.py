"""The loop of a black-box search whose evaluations are trials on workers: several at the same time."""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from typing import Any

import numpy as np

from nasfast.search.blackbox.problem import FailedTrial, Problem
from nasfast.search.blackbox.search import BlackBoxSearch
from nasfast.search.history import Trial
from nasfast.search.workers import Failed, TrialKey, TrialRunner
from nasfast.strategies.base import Strategy

FAILED = 1e30
"""How far a failed trial breaks the constraints, as a strategy is told."""


class TrialSearch(BlackBoxSearch):
    """A search that asks for the next architecture while others are evaluated.

    A strategy is told of results in the order in which it was asked, and asked for one more after each: with so many
    architectures out at a time, a search has the same bits however long its trials take, and however many workers
    share them. A trial that fails is told as one that breaks the constraints, and counts.

    Args:
        problem: What is searched; its estimator is looked at for its name alone.
        strategy: As for :class:`nasfast.search.blackbox.search.BlackBoxSearch`.
        evaluations: Trials in all.
        out: How many architectures are out at a time.
        runner: Runs them.
        together: How many a worker gets at a time; it is told, and asked, for so many together.
        tick: Seconds that a step waits at most.
    """

    def __init__(
        self,
        problem: Problem,
        strategy: Strategy,
        evaluations: int,
        out: int,
        runner: TrialRunner,
        together: int = 1,
        tick: float = 0.25,
    ) -> None:
        super().__init__(problem, strategy, evaluations, out)
        self.runner, self.together, self.tick = runner, min(together, out), tick
        self.pending: deque[TrialKey] = deque()
        self._before: deque[dict[str, float]] = deque()  # what was known of each when it was asked for

    def step(self) -> list[Trial]:
        """Ask for what is missing, and wait a moment for the oldest trial; returns it where it has come to its end."""
        while wanted := self._wanted():
            self._ask(wanted)
        row, fidelity = self.pending[0]
        found = self.runner.wait((row, fidelity), self.tick)
        if found is None:
            return []
        self.pending.popleft()
        before = self._before.popleft()
        rows, width = np.array([row], np.int64), len(self.problem.objectives)
        if isinstance(found, Failed):
            self.failed.append(FailedTrial(row, fidelity, found.error))
            self.strategy.tell(rows, np.full((1, width), np.nan), np.array([FAILED]))
            return []
        self._memory[row, fidelity] = found
        trial = self._trial(len(self.trials), row, fidelity, found, before)
        self.trials.append(trial)
        self.strategy.tell(rows, self.problem.values([trial]), np.array([trial.violation]))
        return [trial]

    def _wanted(self) -> int:
        """Architectures to ask for now; 0 where those that are out have to end first."""
        left = self.evaluations - self.ended - len(self.pending)  # below 0 where a smaller budget was given since
        count = max(0, min(self.together, left))
        return count if len(self.pending) + count <= self.batch else 0

    def _ask(self, count: int) -> None:
        """Architectures to evaluate; those that break a constraint as they are, are told at once."""
        rows = self.problem.space.check(self.strategy.ask(count))
        fidelities = [b if b is not None else self.problem.fidelity for b in self.strategy.fidelities(rows)]
        before = [self.problem.known_before(row) for row in rows.tolist()]
        broken = np.array([self.problem.excluded(metrics) for metrics in before])
        asked = [(tuple(row), b) for row, b, bad in zip(rows.tolist(), fidelities, broken, strict=True) if not bad]
        if broken.any():
            values = np.full((int((broken > 0).sum()), len(self.problem.objectives)), np.nan)
            self.strategy.tell(rows[broken > 0], values, broken[broken > 0])
        self._count_rejected(
            int((broken > 0).sum()), bool(asked), [m for m, bad in zip(before, broken, strict=True) if bad]
        )
        self.pending.extend(asked)
        self._before.extend(metrics for metrics, bad in zip(before, broken, strict=True) if not bad)
        self.runner.submit(asked, self.together, self.ancestors_of)

    def _failed(self, asked: TrialKey) -> FailedTrial:
        """A trial of an earlier session; its error is in the store."""
        found = self.runner.wait(asked, 0)
        return FailedTrial(*asked, found.error if isinstance(found, Failed) else "")

    def state(self) -> dict[str, Any]:
        pending = [[list(row), fidelity] for row, fidelity in self.pending]
        return super().state() | {"pending": pending, "failed": [[list(t.row), t.fidelity] for t in self.failed]}

    def load_state(self, state: dict[str, Any], trials: Sequence[Trial]) -> None:
        super().load_state(state, trials)
        self.failed = [self._failed((tuple(row), fidelity)) for row, fidelity in state["failed"]]
        self.pending = deque((tuple(row), fidelity) for row, fidelity in state["pending"])
        self._before = deque(self.problem.known_before(row) for row, _ in self.pending)
        self.runner.submit(list(self.pending), self.together, self.ancestors_of)
