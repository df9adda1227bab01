"""The ask/tell interface that every black-box strategy has, and the state all of them share."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import fields
from typing import Any, ClassVar, Self

import numpy as np
from numpy.typing import NDArray

from nasfast.errors import ConfigError
from nasfast.spaces.base import Ancestors, Rows, Space

Values = NDArray[np.float64]
State = dict[str, Any]

_TRIES = 100


class Strategy(ABC):
    """Proposes architectures and learns from what is told of them. Its fields are its settings.

    After :meth:`init`, ask and tell take turns: what is told need not be what was asked last, nor in its order, so that
    evaluations may run in parallel. All randomness comes from ``generator``. A strategy can be pickled, and
    ``load_state(state())`` in another process goes on with the same bits.

    Attributes:
        paper: Where it is from.
        space: The space it searches.
        generator: Its source of random numbers.
        seen: Every row that was told, as tuples.
    """

    paper: ClassVar[str]
    many_objectives: ClassVar[bool] = False
    multi_fidelity: ClassVar[bool] = False

    space: Space
    generator: np.random.Generator
    seen: set[tuple[int, ...]]

    def init(self, space: Space, seed: int) -> Self:
        """Start a search of ``space``."""
        self.space = space
        self.generator = np.random.default_rng(seed)
        self.seen = set()
        self.start()
        return self

    def start(self) -> None:  # noqa: B027 - not every strategy has a state of its own
        """Set up the state of a new search; ``space`` and ``generator`` are there."""

    @abstractmethod
    def ask(self, count: int) -> Rows:
        """Architectures to evaluate next: int64 [count, D]."""

    def fidelities(self, rows: Rows) -> list[int | None]:
        """Epochs that the rows asked last may be trained for; None leaves it to the search."""
        return [None] * len(rows)

    def parent_of(self, row: tuple[int, ...]) -> tuple[int, ...] | None:
        """What a row was made from; None where that is nothing, or not kept."""
        return None

    def ancestors_of(self, row: tuple[int, ...], estimated: Callable[[tuple[int, ...]], bool]) -> Ancestors:
        """What a row descends from, eldest first.

        Args:
            estimated: Whether a row was estimated; others, such as those that broke a constraint, are left out.
        """
        found, parent = [], self.parent_of(row)
        while parent is not None:
            if estimated(parent):
                found.append(parent)
            parent = self.parent_of(parent)
        return tuple(reversed(found))

    @abstractmethod
    def learn(self, rows: Rows, values: Values, violations: Values) -> None:
        """Take in evaluated architectures; arguments as for :meth:`tell`, already checked."""

    def tell(self, rows: Rows, values: Values, violations: Values | None = None) -> None:
        """Say what architectures are worth.

        Args:
            rows: int64 [K, D].
            values: float64 [K, M], one column per objective, larger is better. Strategies of one objective read the
                first.
            violations: float64 [K], how far each breaks the hard constraints; 0 (the default) where it keeps them. The
                values of one that breaks them are not read.
        """
        rows = self.space.check(rows)
        values = np.asarray(values, np.float64).reshape(len(rows), -1)
        violations = np.zeros(len(rows)) if violations is None else np.asarray(violations, np.float64)
        if not np.isfinite(values[violations <= 0]).all():
            raise ConfigError("tell: values must be finite, got NaN or infinity")
        self.seen.update(map(tuple, rows.tolist()))
        self.learn(rows, values, violations)

    def state(self) -> State:
        """Everything the next ask depends on besides space and settings, as plain JSON values."""
        own = self.save()
        return {"generator": self.generator.bit_generator.state, "seen": sorted(map(list, self.seen)), "own": own}

    def load_state(self, state: State) -> None:
        """Go on from :meth:`state`; :meth:`init` was called with the same space."""
        self.generator.bit_generator.state = state["generator"]
        self.seen = {tuple(row) for row in state["seen"]}
        self.load(state["own"])

    def save(self) -> State:
        """The strategy's own part of :meth:`state`."""
        return {}

    def load(self, own: State) -> None:  # noqa: B027 - as for start
        """Set what :meth:`save` wrote."""

    def unseen(self, propose: Callable[[], Rows], pending: set[tuple[int, ...]]) -> Rows:
        """A row of ``propose()`` that was neither told nor is in ``pending``; any, after a hundred tries."""
        row: Rows = propose()
        for _ in range(_TRIES):
            key = tuple(row.tolist())
            if key not in self.seen and key not in pending:
                break
            row = propose()
        pending.add(tuple(row.tolist()))
        return row

    def settings(self) -> dict[str, Any]:
        """The settings by name."""
        return {f.name: getattr(self, f.name) for f in fields(self)}  # type: ignore[arg-type]


def check_at_least(owner: str, **limits: tuple[float, float]) -> None:
    """Raise ConfigError where a setting, given as name=(value, smallest), is too small."""
    for name, (value, smallest) in limits.items():
        if not value >= smallest:
            raise ConfigError(f"{owner}: {name} must be at least {smallest}, got {value}")
