"""The loop of every black-box search: ask, estimate, tell.

A search needs a problem (space, estimator, objectives, constraints) and a strategy, and keeps its trials in order.
What is to be written to disk, and going on after a stop, is in ``blackbox_run.py``.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from nasfast.config.objectives import FIDELITY, total_violation
from nasfast.errors import ConfigError, NasfastError
from nasfast.estimators.base import Estimate, StatefulEstimator, WarmStartEstimator
from nasfast.search.blackbox.problem import COSTS, FailedTrial, Problem
from nasfast.search.history import History, Trial
from nasfast.spaces.base import Ancestors
from nasfast.strategies.base import Strategy

_MOST_REJECTED = 10_000
_Asked = tuple[tuple[int, ...], int | None]  # a row and its fidelity


class SearchStuck(NasfastError):
    """The strategy proposes nothing that the constraints allow."""


class BlackBoxSearch:
    """One search in progress.

    What breaks a constraint on parameters, FLOPs or latency is never estimated and costs none of the budget; the
    strategy is told. An architecture that was estimated before is answered from memory, and counts.

    Args:
        problem: What is searched.
        strategy: A strategy whose ``init`` was called with the problem's space.
        evaluations: Estimates in all.
        batch: How many architectures are asked for at a time.

    Attributes:
        trials: What was evaluated, in order.
        failed: What could not be evaluated; it counts. Only trials on workers fail: elsewhere the error is raised.
        rejected: How many proposals broke a constraint before they were estimated.
    """

    def __init__(self, problem: Problem, strategy: Strategy, evaluations: int, batch: int = 1) -> None:
        if evaluations < 1 or batch < 1:
            raise ConfigError(f"evaluations and batch must be at least 1, got {evaluations} and {batch}")
        if len(problem.objectives) > 1 and not strategy.many_objectives:
            raise ConfigError(
                f"{type(strategy).__name__} has one objective, got {', '.join(map(str, problem.objectives))}; "
                "use nsga2, or limit the others by constraints"
            )
        self.problem, self.strategy, self.evaluations, self.batch = problem, strategy, evaluations, batch
        self.trials: list[Trial] = []
        self.failed: list[FailedTrial] = []
        self.rejected = 0
        self._history = History(problem.objectives)
        self._rejected_in_a_row = 0
        self._memory: dict[_Asked, dict[str, float]] = {}

    @property
    def ended(self) -> int:
        """Evaluations that are used up."""
        return len(self.trials) + len(self.failed)

    def done(self) -> bool:
        """Whether the evaluations are used up."""
        return self.ended >= self.evaluations

    def step(self) -> list[Trial]:
        """Ask for a batch, evaluate it, tell the strategy; returns the new trials."""
        rows = self.strategy.ask(min(self.batch, self.evaluations - len(self.trials)))
        keys = [tuple(row) for row in self.problem.space.check(rows).tolist()]
        fidelities = [b if b is not None else self.problem.fidelity for b in self.strategy.fidelities(rows)]
        before = [self.problem.known_before(key) for key in keys]
        broken = [self.problem.excluded(metrics) for metrics in before]
        allowed = [i for i, excess in enumerate(broken) if excess == 0]
        self._estimate([(keys[i], fidelities[i]) for i in allowed])
        new: list[Trial] = []
        for i in allowed:
            number = len(self.trials) + len(new)
            new.append(self._trial(number, keys[i], fidelities[i], self._memory[keys[i], fidelities[i]], before[i]))
            broken[i] = new[-1].violation
        self._count_rejected(
            len(keys) - len(allowed), bool(new), [m for m, excess in zip(before, broken, strict=True) if excess]
        )
        values = np.full((len(keys), len(self.problem.objectives)), np.nan)
        values[allowed] = self.problem.values(new)
        self.trials += new
        self.strategy.tell(rows, values, np.array(broken))
        return new

    def _trial(
        self, number: int, row: tuple[int, ...], fidelity: int | None, found: dict[str, float], before: dict[str, float]
    ) -> Trial:
        """What is known of an architecture, from its estimate and from before."""
        metrics = found | before
        if self.strategy.multi_fidelity and fidelity is not None:
            metrics[FIDELITY] = float(fidelity)
        return Trial(number, row, metrics, total_violation(self.problem.constraints, metrics))

    def ancestors_of(self, asked: _Asked) -> Ancestors:
        """What a row descends from, of what was estimated with its fidelity; eldest first.

        It is the same whenever it is asked for: rows have children when they are told, and not before.
        """
        row, fidelity = asked
        return self.strategy.ancestors_of(row, lambda elder: (elder, fidelity) in self._memory)

    def _estimate(self, asked: list[_Asked]) -> None:
        fresh = [pair for pair in dict.fromkeys(asked) if pair not in self._memory]
        if isinstance(self.problem.estimator, WarmStartEstimator):
            for pair in fresh:
                self.problem.estimator.note_ancestors(pair[0], self.ancestors_of(pair))
        for fidelity in dict.fromkeys(fidelity for _, fidelity in fresh):
            keys = [key for key, other in fresh if other == fidelity]
            estimates = self.problem.estimator.estimate(np.array(keys, np.int64), fidelity)
            for key, estimate in zip(keys, estimates, strict=True):
                self._memory[key, fidelity] = self._metrics(key, estimate)

    def _metrics(self, key: tuple[int, ...], estimate: Estimate) -> dict[str, float]:
        metrics = {name: float(value) for name, value in estimate.numbers().items()}
        for name, value in metrics.items():
            if not math.isfinite(value):
                text = self.problem.space.decode(key)
                raise NasfastError(
                    f"{self.problem.estimator.name}: {name} of {text} is {value}, expected a finite number"
                )
        return metrics

    def _count_rejected(self, count: int, accepted: bool, examples: list[dict[str, float]]) -> None:
        self.rejected += count
        self._rejected_in_a_row = 0 if accepted else self._rejected_in_a_row + count
        if self._rejected_in_a_row >= _MOST_REJECTED:
            limits = ", ".join(map(str, self.problem.constraints))
            last = ", ".join(f"{name} {value:g}" for name, value in examples[-1].items())
            raise SearchStuck(f"none of the last {_MOST_REJECTED:,} proposals keeps {limits}; the last one has {last}")

    @property
    def history(self) -> History:
        """How the trials stand until now."""
        for trial in self.trials[self._history.count :]:
            self._history.add(trial)
        return self._history

    def best(self) -> Trial:
        """The trial with the best first objective among those that keep the constraints; the first of equal ones.

        Raises:
            SearchStuck: None keeps them.
        """
        best = self.history.best
        if best is not None:
            return best
        if self.failed and not self.trials:
            raise SearchStuck(f"all of {len(self.failed)} trials failed; the first one: {self.failed[0].error}")
        limits = ", ".join(map(str, self.problem.constraints))
        raise SearchStuck(f"none of {len(self.trials)} evaluated architectures keeps {limits}")

    def front(self) -> list[Trial]:
        """Trials that keep the constraints and that no other dominates, the best first objective first."""
        return self.history.front()

    def state(self) -> dict[str, Any]:
        """What a later step depends on besides the trials, as plain JSON values."""
        counts = [self.rejected, self._rejected_in_a_row]
        return {"strategy": self.strategy.state(), "rejected": counts, "trials": len(self.trials)}

    def load_state(self, state: dict[str, Any], trials: Sequence[Trial]) -> None:
        """Go on from :meth:`state` and the trials of that time."""
        if len(trials) != state["trials"]:
            raise ConfigError(f"expected {state['trials']} trials, got {len(trials)}")
        self.trials, self._history = list(trials), History(self.problem.objectives)
        self.rejected, self._rejected_in_a_row = state["rejected"]
        for trial in self.trials:
            fidelity = int(trial.metrics[FIDELITY]) if FIDELITY in trial.metrics else self.problem.fidelity
            known = {name: v for name, v in trial.metrics.items() if name not in (*COSTS, FIDELITY)}
            self._memory[trial.row, fidelity] = known
        if self.trials and isinstance(self.problem.estimator, StatefulEstimator):
            rows = np.array([trial.row for trial in self.trials], np.int64)
            self.problem.estimator.recall(rows, [trial.metrics for trial in self.trials])
        self.strategy.load_state(state["strategy"])
