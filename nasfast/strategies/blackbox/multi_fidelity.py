"""Strategies that train many architectures for a short time, and the best of them for longer.

Every fidelity of the search is a rung. An architecture begins at the lowest, and is asked for again at the next one
where it did well; who evaluates it sees the fidelity in :meth:`Strategy.fidelities`. Asynchronous halving, Hyperband
and BOHB are pruners and samplers of Optuna.
"""

from __future__ import annotations

import warnings
from abc import abstractmethod
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, ClassVar, NamedTuple

import numpy as np

from nasfast.errors import ConfigError
from nasfast.spaces.base import Rows
from nasfast.strategies.base import State, Strategy, Values, check_at_least

if TYPE_CHECKING:
    from optuna.trial import FrozenTrial


@contextmanager
def quiet_optuna() -> Iterator[None]:
    """Optuna says no more than warnings, and none of what is experimental."""
    import optuna

    level = optuna.logging.get_verbosity()
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
            yield
    finally:
        optuna.logging.set_verbosity(level)


class TrialKey(NamedTuple):
    """An architecture that is out for an estimate: ``token`` is the strategy's own."""

    row: tuple[int, ...]
    rung: int
    token: Any


@dataclass
class MultiFidelity(Strategy):
    """What they share: rungs, and a state that is what was asked and told, in order.

    Args:
        reduction: One of so many goes on to the next rung.

    Attributes:
        rungs: Fidelities in epochs, rising; set before :meth:`init`. One of None leaves it to the estimator: then
            nothing is gained over a plain search.
    """

    multi_fidelity: ClassVar[bool] = True

    reduction: int = 3

    def __post_init__(self) -> None:
        check_at_least(type(self).__name__, reduction=(self.reduction, 2))
        self.rungs: tuple[int | None, ...] = (None,)

    def start(self) -> None:
        numbers = [fidelity for fidelity in self.rungs if fidelity is not None]
        if not self.rungs or numbers != sorted(set(numbers)) or (numbers and len(numbers) != len(self.rungs)):
            raise ConfigError(f"rungs must be fidelities that rise, got {self.rungs}")
        self._seed = int(self.generator.integers(2**31))
        self._begin()

    def _begin(self) -> None:
        self._events: list[Any] = []
        self._out: list[TrialKey] = []
        self._last: list[TrialKey] = []
        self.reset()

    @abstractmethod
    def reset(self) -> None:
        """Set up a new search, whose randomness follows from ``_seed``."""

    @abstractmethod
    def next(self) -> TrialKey:
        """What to estimate next."""

    @abstractmethod
    def result(self, asked: TrialKey, value: float | None) -> None:
        """Take in the estimate of what was asked; None: it breaks a constraint."""

    def ask(self, count: int) -> Rows:
        self._events.append(count)
        self._last = [self.next() for _ in range(count)]
        self._out += self._last
        return np.array([asked.row for asked in self._last], np.int64)

    def fidelities(self, rows: Rows) -> list[int | None]:
        return [self.rungs[asked.rung] for asked in self._last]

    def learn(self, rows: Rows, values: Values, violations: Values) -> None:
        told = [
            (row, None if excess > 0 else float(value[0]))
            for row, value, excess in zip(rows.tolist(), values, violations, strict=True)
        ]
        self._events.append(told)
        for row, value in told:
            place = next((i for i, asked in enumerate(self._out) if asked.row == tuple(row)), None)
            if place is not None:  # others were evaluated elsewhere
                self.result(self._out.pop(place), value)

    def save(self) -> State:
        return {"seed": self._seed, "rungs": list(self.rungs), "events": self._events}

    def load(self, own: State) -> None:
        """Ask and tell again what was: that leads to the same state."""
        self._seed, self.rungs = own["seed"], tuple(own["rungs"])
        self._begin()
        for event in own["events"]:
            if isinstance(event, int):
                self.ask(event)
            else:
                rows = np.array([row for row, _ in event], np.int64)
                values = np.array([[np.nan if value is None else value] for _, value in event])
                self.learn(rows, values, np.isnan(values[:, 0]).astype(np.float64))

    def __getstate__(self) -> dict[str, Any]:
        return {name: value for name, value in self.__dict__.items() if not name.startswith("_")} | (
            {"saved": self.save()} if hasattr(self, "_events") else {}
        )

    def __setstate__(self, state: dict[str, Any]) -> None:
        saved = state.pop("saved", None)
        self.__dict__.update(state)
        if saved is not None:
            self.load(saved)


@dataclass
class _Bracket:
    """Architectures that go up the rungs together."""

    rung: int
    queue: deque[tuple[int, ...]]
    size: int
    results: list[tuple[float, tuple[int, ...]]] = field(default_factory=list)
    ended: int = 0


@dataclass
class SuccessiveHalving(MultiFidelity):
    """A rung is complete before the best of it go on; then another bracket begins.

    Jamieson, Talwalkar, "Non-stochastic Best Arm Identification and Hyperparameter Optimization", AISTATS 2016.

    Args:
        first: Architectures at the lowest rung of a bracket.
    """

    paper = "Jamieson, Talwalkar, AISTATS 2016"

    first: int = 27

    def __post_init__(self) -> None:
        super().__post_init__()
        check_at_least("successive-halving", first=(self.first, 2))

    def reset(self) -> None:
        self._draws = np.random.default_rng(self._seed)
        self._brackets: list[_Bracket] = []
        self._drawn: set[tuple[int, ...]] = set()

    def _draw(self) -> tuple[int, ...]:
        row = tuple(self.space.sample(self._draws, 1)[0].tolist())
        for _ in range(100):
            if row not in self._drawn:
                break
            row = tuple(self.space.sample(self._draws, 1)[0].tolist())
        self._drawn.add(row)
        return row

    def next(self) -> TrialKey:
        bracket = next((b for b in self._brackets if b.queue), None)
        if bracket is None:
            bracket = _Bracket(0, deque(self._draw() for _ in range(self.first)), self.first)
            self._brackets.append(bracket)
        return TrialKey(bracket.queue.popleft(), bracket.rung, bracket)

    def result(self, asked: TrialKey, value: float | None) -> None:
        bracket: _Bracket = asked.token
        bracket.ended += 1
        if value is not None:
            bracket.results.append((value, asked.row))
        if bracket.ended < bracket.size:
            return
        best = sorted(bracket.results, key=lambda result: -result[0])[: max(1, bracket.size // self.reduction)]
        if bracket.rung + 1 == len(self.rungs) or not best:
            self._brackets.remove(bracket)
            return
        bracket.rung, bracket.size, bracket.ended, bracket.results = bracket.rung + 1, len(best), 0, []
        bracket.queue.extend(row for _, row in best)


@dataclass
class ASHA(MultiFidelity):
    """An architecture goes on as soon as it is among the best of those that have come to its rung.

    Li et al., "A System for Massively Parallel Hyperparameter Tuning", MLSys 2020. Optuna's SuccessiveHalvingPruner,
    over uniform architectures.
    """

    paper = "Li et al., MLSys 2020"

    def reset(self) -> None:
        import optuna

        self._waiting: deque[TrialKey] = deque()
        self._fixed: dict[str, Any] = {
            decision.name: optuna.distributions.CategoricalDistribution(tuple(range(len(decision.values))))
            for decision in self.space.decisions
        }
        with quiet_optuna():
            # Hyperband draws the bracket of a trial from the name of the study.
            self._study = optuna.create_study(
                study_name=f"nasfast-{self._seed}",
                direction="maximize",
                sampler=self._sampler(),
                pruner=self._pruner(),
            )

    def _sampler(self) -> Any:
        from optuna.samplers import RandomSampler

        return RandomSampler(self._seed)

    def _pruner(self) -> Any:
        from optuna.pruners import SuccessiveHalvingPruner

        return SuccessiveHalvingPruner(min_resource=1, reduction_factor=self.reduction)

    def next(self) -> TrialKey:
        if self._waiting:
            return self._waiting.popleft()
        trial = self._study.ask(self._fixed)
        return TrialKey(tuple(trial.params[decision.name] for decision in self.space.decisions), 0, trial)

    def result(self, asked: TrialKey, value: float | None) -> None:
        from optuna.trial import TrialState

        trial = asked.token
        if value is None:
            self._study.tell(trial, state=TrialState.FAIL)
            return
        trial.report(value, self._step(asked.rung))
        if asked.rung + 1 == len(self.rungs):
            self._study.tell(trial, value)
        elif trial.should_prune():
            self._study.tell(trial, state=TrialState.PRUNED)
        else:
            self._waiting.append(TrialKey(asked.row, asked.rung + 1, trial))

    def _step(self, rung: int) -> int:
        """A rung as the pruner counts it."""
        return self.reduction**rung

    def epochs_of(self, step: int) -> int:
        """The fidelity of a rung by the pruner's count of it; the count itself where the estimator has its own."""
        found = next(fidelity for rung, fidelity in enumerate(self.rungs) if self._step(rung) == step)
        return step if found is None else found

    def trials(self) -> list[FrozenTrial]:
        """Optuna's, not copied: their parameters are the choices of a row, their steps those of the pruner."""
        return list(self._study.get_trials(deepcopy=False))


@dataclass
class Hyperband(ASHA):
    """Brackets that begin at different rungs share the architectures, so that a misleading low rung costs less.

    Li et al., "Hyperband: A Novel Bandit-Based Approach to Hyperparameter Optimization", JMLR 2018. Optuna's
    HyperbandPruner, over uniform architectures.
    """

    paper = "Li et al., JMLR 2018"

    def _pruner(self) -> Any:
        from optuna.pruners import HyperbandPruner

        most = self.reduction ** (len(self.rungs) - 1)
        return HyperbandPruner(min_resource=1, max_resource=most, reduction_factor=self.reduction)


@dataclass
class BOHB(Hyperband):
    """Hyperband whose architectures are drawn where good ones are dense.

    Falkner, Klein, Hutter, "BOHB: Robust and Efficient Hyperparameter Optimization at Scale", ICML 2018. Optuna's
    multivariate TPESampler with its HyperbandPruner.

    Args:
        startup: Uniform architectures at the start.
    """

    paper = "Falkner, Klein, Hutter, ICML 2018"

    startup: int = 10

    def _sampler(self) -> Any:
        from optuna.samplers import TPESampler

        return TPESampler(seed=self._seed, multivariate=True, n_startup_trials=self.startup)
