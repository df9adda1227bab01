"""Local search: look at everything one decision away, go to the best, start again where nothing is better."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from nasfast.spaces.base import Rows
from nasfast.strategies.base import State, Strategy, Values


@dataclass
class LocalSearch(Strategy):
    """Hill climbing with random restarts. Neighbours that an earlier climb has evaluated are passed over.

    White, Nolen, Savani, "Exploring the Loss Landscape in Neural Architecture Search", UAI 2021.

    Args:
        greedy: Go to the first neighbour that is better, instead of the best of all.
    """

    paper = "White, Nolen, Savani, UAI 2021"

    greedy: bool = False

    def start(self) -> None:
        self.at: tuple[int, ...] | None = None  # where the climb stands; None before the first step of a climb
        self.value = -np.inf
        self.best: tuple[float, tuple[int, ...]] | None = None  # of the neighbours of `at`
        self.queue: list[list[int]] = []  # neighbours not asked for yet
        self.waiting: list[list[int]] = []  # neighbours (or the start of a climb) asked for and not told yet

    def ask(self, count: int) -> Rows:
        pending: set[tuple[int, ...]] = set()
        rows = []
        for _ in range(count):
            if self.queue:
                rows.append(self.queue.pop(0))
                self.waiting.append(rows[-1])
                pending.add(tuple(rows[-1]))
                continue
            row = self.unseen(lambda: self.space.sample(self.generator, 1)[0], pending).tolist()
            if self.at is None and not self.waiting:
                self.waiting.append(row)
            rows.append(row)  # one more that the climb does not wait for, where a batch is larger than it can use
        return np.array(rows, np.int64)

    def learn(self, rows: Rows, values: Values, violations: Values) -> None:
        scores = np.where(violations > 0, -np.inf, values[:, 0]).tolist()
        for row, score in zip(rows.tolist(), scores, strict=True):
            if row not in self.waiting:
                continue
            self.waiting.remove(row)
            if self.at is None:
                if score > -np.inf:
                    self._climb_to(tuple(row), score)
            elif self.best is None or score > self.best[0]:
                self.best = (score, tuple(row))
            self._step()

    def _step(self) -> None:
        """Move, or end the climb, once enough neighbours are known."""
        better = self.best is not None and self.best[0] > self.value
        if self.at is None or not ((self.greedy and better) or not (self.queue or self.waiting)):
            return
        if better and self.best is not None:
            score, row = self.best
            self._climb_to(row, score)
        if not (better and self.queue):  # a local optimum, or one whose neighbours are all known
            self.at, self.best, self.queue, self.waiting = None, None, [], []

    def _climb_to(self, row: tuple[int, ...], score: float) -> None:
        self.at, self.value, self.best, self.waiting = row, score, None, []
        neighbours = [n for n in self.space.neighbours(row).tolist() if tuple(n) not in self.seen]
        self.queue = [neighbours[i] for i in self.generator.permutation(len(neighbours))]

    def save(self) -> State:
        return {
            "at": self.at and list(self.at),
            "value": None if self.value == -np.inf else self.value,
            "best": self.best and [None if self.best[0] == -np.inf else self.best[0], list(self.best[1])],
            "queue": self.queue,
            "waiting": self.waiting,
        }

    def load(self, own: State) -> None:
        self.at = own["at"] and tuple(own["at"])
        self.value = -np.inf if own["value"] is None else own["value"]
        self.best = own["best"] and (-np.inf if own["best"][0] is None else own["best"][0], tuple(own["best"][1]))
        self.queue, self.waiting = own["queue"], own["waiting"]
