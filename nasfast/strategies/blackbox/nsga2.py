"""NSGA-II: evolution towards a whole front of several objectives, under hard constraints."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from nasfast.spaces import population as arithmetic
from nasfast.spaces.base import Rows
from nasfast.strategies.base import State, Strategy, Values, check_at_least


@dataclass
class NSGA2(Strategy):
    """Generations of children; of parents and children together, the best fronts live, the less crowded first.

    Deb et al., "A Fast and Elitist Multiobjective Genetic Algorithm: NSGA-II", IEEE Transactions on Evolutionary
    Computation 2002, with its constrained dominance; for architectures: Lu et al., "NSGA-Net: Neural Architecture
    Search using Multi-Objective Genetic Algorithm", GECCO 2019. Parents win a tournament of two; children that were
    evaluated before are drawn again.

    Args:
        population: Members of a generation.
        crossover: Probability that a child has two parents.
        mutations: Decisions of a child that are changed, on average.
    """

    paper = "Deb et al., IEEE TEC 2002"
    many_objectives = True

    population: int = 20
    crossover: float = 0.9
    mutations: float = 1.0

    def __post_init__(self) -> None:
        check_at_least(
            "nsga2", population=(self.population, 2), crossover=(self.crossover, 0), mutations=(self.mutations, 0)
        )

    def start(self) -> None:
        empty = np.empty((0, len(self.space.sizes)), np.int64)
        self.parents: tuple[Rows, Values, Values] = (empty, np.empty((0, 0)), np.empty(0))
        self.children: list[tuple[list[int], list[float], float]] = []
        self.ranks: NDArray[np.int64] = np.empty(0, np.int64)
        self.crowding: Values = np.empty(0)

    def ask(self, count: int) -> Rows:
        pending: set[tuple[int, ...]] = set()
        propose = self._child if len(self.parents[0]) else lambda: self.space.sample(self.generator, 1)[0]
        return np.stack([self.unseen(propose, pending) for _ in range(count)])

    def _parent(self) -> Rows:
        one, other = self.generator.integers(0, len(self.parents[0]), 2).tolist()
        better = (self.ranks[one], -self.crowding[one]) <= (self.ranks[other], -self.crowding[other])
        winner: Rows = self.parents[0][one if better else other]
        return winner

    def _child(self) -> Rows:
        child, sizes = self._parent(), self.space.sizes
        if self.generator.random() < self.crossover:
            child = self.space.crossover(self.generator, child, self._parent())
        draws = self.generator.random((1, len(sizes), 2))
        mutant: Rows = arithmetic.mutate_each(child[None], sizes, draws, self.mutations / len(sizes))[0]
        return mutant

    def learn(self, rows: Rows, values: Values, violations: Values) -> None:
        for child in zip(rows.tolist(), values.tolist(), violations.tolist(), strict=True):
            self.children.append(child)
            if len(self.children) == self.population:
                self._select()

    def _select(self) -> None:
        """The next generation."""
        rows, values, violations = (np.array(column) for column in zip(*self.children, strict=True))
        self.children = []
        if len(self.parents[0]):
            old = self.parents
            rows, values = np.concatenate([old[0], rows]), np.concatenate([old[1], values])
            violations = np.concatenate([old[2], violations])
        values = np.where(violations[:, None] > 0, 0.0, values)  # not read, but must compare
        ranks = arithmetic.non_dominated_ranks(values, violations)
        crowding = arithmetic.crowding_distance(values, ranks)
        kept = np.lexsort((-crowding, ranks))[: self.population]
        self.parents = (rows[kept], values[kept], violations[kept])
        self.ranks, self.crowding = ranks[kept], crowding[kept]

    def save(self) -> State:
        return {
            "parents": [part.tolist() for part in self.parents],
            "children": [list(child) for child in self.children],
            "ranks": self.ranks.tolist(),
            "crowding": [None if np.isinf(distance) else distance for distance in self.crowding.tolist()],
        }

    def load(self, own: State) -> None:
        self.start()
        self.children = [(row, values, violation) for row, values, violation in own["children"]]
        if own["parents"][0]:
            rows, values, violations = own["parents"]
            self.parents = (np.array(rows, np.int64), np.array(values, float), np.array(violations, float))
            self.ranks = np.array(own["ranks"], np.int64)
            self.crowding = np.array([np.inf if d is None else d for d in own["crowding"]], float)
