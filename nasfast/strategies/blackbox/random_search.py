"""Random search: the baseline that every other strategy has to beat."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from nasfast.spaces.base import Rows
from nasfast.strategies.base import Strategy, Values


@dataclass
class RandomSearch(Strategy):
    """Uniform rows, none twice while there are others.

    Li, Talwalkar, "Random Search and Reproducibility for Neural Architecture Search", UAI 2019.
    """

    paper = "Li, Talwalkar, UAI 2019"
    many_objectives = True

    def ask(self, count: int) -> Rows:
        pending: set[tuple[int, ...]] = set()
        return np.stack([self.unseen(lambda: self.space.sample(self.generator, 1)[0], pending) for _ in range(count)])

    def learn(self, rows: Rows, values: Values, violations: Values) -> None:
        pass
