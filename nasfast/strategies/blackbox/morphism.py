"""Search by network morphism: children begin with their parents' weights, so that short trainings tell them apart.

The strategies say what a row was made from (``parent_of``), and the search hands that to
:class:`nasfast.estimators.InheritEstimator`, which trains it from there.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from nasfast.errors import ConfigError
from nasfast.morphism.spaces import preserves
from nasfast.spaces.base import Rows
from nasfast.strategies.base import State, Strategy, Values, check_at_least
from nasfast.strategies.blackbox.nsga2 import NSGA2

Key = tuple[int, ...]


class Lamarckian(Strategy):
    """A strategy that keeps the lineage of its rows.

    Attributes:
        origins: Every row that was proposed, and what it was made from then; None for one that was drawn. Proposed
            again, it keeps what it had.
        begin: An architecture, as text, that :meth:`beginning` proposes first; "": none.
        morphisms: Of each child, in a row.
    """

    origins: dict[Key, Key | None]
    begin: str = ""
    morphisms: int

    def start(self) -> None:
        self.origins = {}
        if self.begin:
            self.space.encode(self.begin)  # raises where it is none of the space

    def parent_of(self, row: Key) -> Key | None:
        """None for a row that was drawn."""
        return self.origins.get(row)

    def descend(self, parent: Any) -> Rows | None:
        """A new row, ``morphisms`` decisions away from ``parent`` or fewer, that starts with the same outputs.

        None where there is none.
        """
        base = self.space.check(parent)[0]
        child = None
        for _ in range(self.morphisms):
            grown = self._grow(base, base if child is None else child)
            if grown is None:
                break
            child = grown
        if child is not None:
            self.note(child, base)
        return child

    def _grow(self, base: Rows, row: Rows) -> Rows | None:
        """A new row, one decision away from ``row``, that can start with the outputs of ``base``."""
        near = self.space.neighbours(row)
        form = self.space.canonical(row)
        for i in self.generator.permutation(len(near)):
            child, key = near[i], tuple(near[i].tolist())
            if key in self.seen or key in self.origins or self.space.canonical(child) == form:
                continue
            if preserves(self.space, base, child):
                return child
        return None

    def beginning(self, pending: set[Key]) -> Rows | None:
        """The architecture that the search begins with, until it was proposed."""
        if not self.begin:
            return None
        row = self.space.encode(self.begin)
        key = tuple(row.tolist())
        if key in self.seen or key in pending:
            return None
        self.note(row, None)
        return row

    def draw(self, pending: set[Key]) -> Rows:
        """A random row that was not told before."""
        row = self.unseen(lambda: self.space.sample(self.generator, 1)[0], pending)
        self.note(row, None)
        return row

    def note(self, row: Any, parent: Any) -> None:
        """Say what a row was made from, None for nothing, unless it has been proposed before.

        Other rows may be out, not told yet: one of them must not get a parent while it is trained without.
        """
        key = tuple(row.tolist())
        if key not in self.seen and key not in self.origins:
            self.origins[key] = None if parent is None else tuple(np.asarray(parent).tolist())

    def save(self) -> State:
        return {"origins": [[list(row), parent and list(parent)] for row, parent in self.origins.items()]}

    def load(self, own: State) -> None:
        self.origins = {tuple(row): parent and tuple(parent) for row, parent in own["origins"]}


@dataclass
class MorphismHillClimbing(Lamarckian):
    """The best of a few children, each one morphism away, is the next parent.

    Elsken, Metzen, Hutter, "Simple and Efficient Architecture Search for Convolutional Neural Networks", 2017. Where no
    child is better than its parent, others are tried; where there are none, or no better ones in ``patience`` turns,
    the climb starts again.

    Args:
        children: Of each parent.
        first: Random architectures, the best of which a climb starts from.
        patience: Turns without a better child before a new start.
        begin: An architecture, as text, that the first climb starts from: as a rule a small one. "": random ones.
        morphisms: Of each child, in a row: several let small networks grow fast; the paper has five.
    """

    paper = "Elsken, Metzen, Hutter, 2017"

    children: int = 8
    first: int = 1
    patience: int = 3
    begin: str = ""
    morphisms: int = 1

    def __post_init__(self) -> None:
        check_at_least(
            "morphism-hill-climbing", children=(self.children, 1), first=(self.first, 1), patience=(self.patience, 1),
            morphisms=(self.morphisms, 1),
        )  # fmt: skip

    def start(self) -> None:
        super().start()
        self.at: tuple[float, list[int]] | None = None  # the parent; None while a start is looked for
        self.told: list[tuple[float, list[int]]] = []  # of this turn
        self.failed = 0  # turns in a row

    def ask(self, count: int) -> Rows:
        pending: set[Key] = set()
        rows = []
        for _ in range(count):
            child = self.beginning(pending) if self.at is None else self.descend(self.at[1])
            if child is None:
                child = self.draw(pending)
                if self.at is not None and not self.told:  # nothing grows out of it any more
                    self.at, self.failed = None, 0
            pending.add(tuple(child.tolist()))
            rows.append(child)
        return np.stack(rows)

    def learn(self, rows: Rows, values: Values, violations: Values) -> None:
        for row, value, violation in zip(rows.tolist(), values[:, 0].tolist(), violations.tolist(), strict=True):
            self.told.append((-np.inf if violation > 0 else value, row))
            begins = bool(self.begin) and tuple(row) == tuple(self.space.encode(self.begin).tolist())
            if begins or len(self.told) >= (self.first if self.at is None else self.children):
                self._turn()

    def _turn(self) -> None:
        best = max(self.told, key=lambda member: member[0])
        self.told = []
        if best[0] > (-np.inf if self.at is None else self.at[0]):
            self.at, self.failed = best, 0
            return
        self.failed += 1
        if self.failed >= self.patience:
            self.at, self.failed = None, 0

    def save(self) -> State:
        told = [[None if value == -np.inf else value, row] for value, row in self.told]
        return super().save() | {"at": self.at and list(self.at), "told": told, "failed": self.failed}

    def load(self, own: State) -> None:
        super().load(own)
        self.at = own["at"] and (own["at"][0], own["at"][1])
        self.told = [(-np.inf if value is None else value, row) for value, row in own["told"]]
        self.failed = own["failed"]


@dataclass
class MorphismEvolution(Lamarckian):
    """The best of a random few has a child, one morphism away, that joins the population; the worst member leaves.

    Evolution by the morphisms of Elsken, Metzen, Hutter (2017), with the tournaments of Real et al. (AAAI 2019). A
    member that nothing grows out of any more is mutated in one decision instead; its child inherits what it can.

    Args:
        population: Members, the first of which are random.
        sample: Members that are drawn, with replacement, to find a parent.
        approximate: Share of children that are mutated in any decision, whether or not outputs stay.
        begin: An architecture, as text, that all others come from: as a rule a small one. "": random ones.
        morphisms: Of each child, in a row: several let small networks grow fast; the paper has five.
    """

    paper = "Elsken, Metzen, Hutter, 2017"

    population: int = 8
    sample: int = 3
    approximate: float = 0.0
    begin: str = ""
    morphisms: int = 1

    def __post_init__(self) -> None:
        check_at_least("morphism-evolution", population=(self.population, 1), sample=(self.sample, 1))
        check_at_least("morphism-evolution", approximate=(self.approximate, 0), morphisms=(self.morphisms, 1))

    def start(self) -> None:
        super().start()
        self.members: list[tuple[float, list[int]]] = []

    def ask(self, count: int) -> Rows:
        pending: set[Key] = set()
        rows = []
        for _ in range(count):
            child = self.beginning(pending)
            if child is None:
                enough = len(self.members) >= (1 if self.begin else self.population)
                child = self._child(pending) if enough else self.draw(pending)
            pending.add(tuple(child.tolist()))
            rows.append(child)
        return np.stack(rows)

    def _child(self, pending: set[Key]) -> Rows:
        drawn = self.generator.integers(0, len(self.members), self.sample).tolist()
        parent = max((self.members[i] for i in drawn), key=lambda member: member[0])[1]
        child = None if self.generator.random() < self.approximate else self.descend(parent)
        if child is None:
            child = self.unseen(lambda: self.space.mutate(self.generator, parent), pending)
            self.note(child, parent)
        return child

    def learn(self, rows: Rows, values: Values, violations: Values) -> None:
        for row, value, violation in zip(rows.tolist(), values[:, 0].tolist(), violations.tolist(), strict=True):
            if violation > 0:
                continue
            self.members.append((value, row))
            if len(self.members) > self.population:
                self.members.pop(min(range(len(self.members)), key=lambda i: self.members[i][0]))

    def save(self) -> State:
        return super().save() | {"members": [[value, row] for value, row in self.members]}

    def load(self, own: State) -> None:
        super().load(own)
        self.members = [(value, row) for value, row in own["members"]]


@dataclass
class LamarckianNSGA2(NSGA2, Lamarckian):
    """Several objectives, with children that inherit weights: morphisms, and approximate ones that make them smaller.

    Elsken, Metzen, Hutter, "Efficient Multi-Objective Neural Architecture Search via Lamarckian Evolution", ICLR 2019.
    Members are chosen by NSGA-II, whose crowding distance stands in for that paper's kernel density: both prefer
    parents where the front is sparse. A child has one parent.

    Args:
        population: Members of a generation.
        crossover: Must be 0.
        mutations: Unused: a child differs in one decision.
        approximate: Share of children that are mutated in any decision, whether or not outputs stay.
    """

    paper = "Elsken, Metzen, Hutter, ICLR 2019"

    crossover: float = 0.0
    approximate: float = 0.5
    morphisms: int = 1

    def __post_init__(self) -> None:
        super().__post_init__()
        check_at_least("lamarckian", approximate=(self.approximate, 0), morphisms=(self.morphisms, 1))
        if self.crossover:
            raise ConfigError(f"lamarckian: crossover must be 0, a child has one parent; got {self.crossover}")

    def start(self) -> None:
        Lamarckian.start(self)
        NSGA2.start(self)

    def ask(self, count: int) -> Rows:
        rows = super().ask(count)
        for row in rows:
            self.note(row, None)  # those that were drawn; children have their parent
        return rows

    def _child(self) -> Rows:
        parent = self._parent()
        child = None if self.generator.random() < self.approximate else self.descend(parent)
        if child is None:
            child = self.space.mutate(self.generator, parent)
            self.note(child, parent)
        return child

    def save(self) -> State:
        return NSGA2.save(self) | Lamarckian.save(self)

    def load(self, own: State) -> None:
        NSGA2.load(self, own)
        Lamarckian.load(self, own)
