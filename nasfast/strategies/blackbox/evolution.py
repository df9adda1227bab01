"""Regularized evolution: a population in which the oldest die."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from nasfast.errors import ConfigError
from nasfast.spaces.base import Rows
from nasfast.strategies.base import State, Strategy, Values, check_at_least


@dataclass
class RegularizedEvolution(Strategy):
    """The best of a random few is mutated in one decision; its child joins the population, the oldest member leaves.

    Real et al., "Regularized Evolution for Image Classifier Architecture Search", AAAI 2019. Children that were
    evaluated before are drawn again.

    Args:
        population: Members, the first of which are random.
        sample: Members that are drawn, with replacement, to find a parent.
        ageing: Let the oldest leave, as published, or else the worst.
    """

    paper = "Real et al., AAAI 2019"

    population: int = 30
    sample: int = 10
    ageing: bool = True

    def __post_init__(self) -> None:
        check_at_least("regularized-evolution", population=(self.population, 2), sample=(self.sample, 1))
        if self.sample > self.population:
            raise ConfigError(
                f"regularized-evolution: sample must be at most population ({self.population}), got {self.sample}"
            )

    def start(self) -> None:
        self.members: list[tuple[float, list[int]]] = []  # oldest first

    def ask(self, count: int) -> Rows:
        pending: set[tuple[int, ...]] = set()
        rows = []
        for _ in range(count):
            full = len(self.members) >= self.population
            rows.append(self.unseen(self._child if full else self._random, pending))
        return np.stack(rows)

    def _random(self) -> Rows:
        return self.space.sample(self.generator, 1)[0]

    def _child(self) -> Rows:
        drawn = self.generator.integers(0, len(self.members), self.sample).tolist()
        parent = max((self.members[i] for i in drawn), key=lambda member: member[0])
        return self.space.mutate(self.generator, parent[1])

    def learn(self, rows: Rows, values: Values, violations: Values) -> None:
        for row, value, violation in zip(rows.tolist(), values[:, 0].tolist(), violations.tolist(), strict=True):
            if violation > 0:
                continue
            self.members.append((value, row))
            if len(self.members) > self.population:
                worst = min(range(len(self.members)), key=lambda i: self.members[i][0])
                self.members.pop(0 if self.ageing else worst)

    def save(self) -> State:
        return {"members": [[value, row] for value, row in self.members]}

    def load(self, own: State) -> None:
        self.members = [(value, row) for value, row in own["members"]]
