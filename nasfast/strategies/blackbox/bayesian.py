"""Bayesian optimisation: a predictor learns what was evaluated, and what it expects most of is evaluated next."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from scipy.stats import norm

from nasfast.errors import ConfigError
from nasfast.predictors.base import Predictor, Scores
from nasfast.predictors.encoding import Encoder
from nasfast.predictors.registry import make_predictor
from nasfast.spaces.base import Rows
from nasfast.strategies.base import State, Strategy, Values, check_at_least
from nasfast.utils.suggest import must_be_one_of

_RANDOM_SHARE = 0.2
"""Of the candidates: drawn from the whole space, so that no good region stays out of reach of mutations."""
_TRIES = 10  # draws for each candidate, before fewer have to do


@dataclass
class Bayesian(Strategy):
    """Candidates are mutations of the best, ranked by an acquisition function over a predictor's mean and deviation.

    White, Neiswanger, Savani, "BANANAS: Bayesian Optimization with Neural Architectures for Neural Architecture
    Search", AAAI 2021. Architectures that break the constraints are learned as worse than all that keep them.

    Args:
        predictor: An ensemble of neural networks, or a Gaussian process.
        encoding: Paths through the cell, or an indicator for every choice; auto: paths where the space has cells.
        acquisition: "its", a draw from each candidate's posterior (independent Thompson sampling, as published), or
            "ei", the expected improvement over the best (Jones, Schonlau, Welch, 1998).
        initial: Random architectures before the predictor is first asked.
        batch: Architectures told between two fits of the predictor.
        candidates: Architectures that are ranked at a time.
        parents: Best architectures that are mutated.
    """

    paper = "White, Neiswanger, Savani, AAAI 2021"

    predictor: Literal["ensemble", "gp"] = "ensemble"
    encoding: Literal["auto", "path", "one-hot"] = "auto"
    acquisition: Literal["its", "ei"] = "its"
    initial: int = 10
    batch: int = 10
    candidates: int = 100
    parents: int = 10

    def __post_init__(self) -> None:
        check_at_least(
            "bayesian",
            initial=(self.initial, 2),
            batch=(self.batch, 1),
            candidates=(self.candidates, 1),
            parents=(self.parents, 1),
        )
        for name, value, known in (
            ("predictor", self.predictor, ("ensemble", "gp")),
            ("encoding", self.encoding, ("auto", "path", "one-hot")),
            ("acquisition", self.acquisition, ("its", "ei")),
        ):
            if value not in known:
                raise ConfigError(f"bayesian: {name} {must_be_one_of(value, known)}")

    def start(self) -> None:
        self.encoder = Encoder(self.space, self.encoding)
        self.rows: list[list[int]] = []  # told, in order
        self.values: list[float | None] = []  # None where a constraint is broken
        self.fitted = 0  # how many of them the predictor has learned
        self.fit_seed = 0
        self.model: Predictor | None = None

    def ask(self, count: int) -> Rows:
        pending: set[tuple[int, ...]] = set()
        if not self._ready():
            return np.stack([self.unseen(self._random, pending) for _ in range(count)])
        model = self._learned()
        rows = self._candidates(max(self.candidates, count), count)
        order = np.argsort(-self._acquire(*model.predict(self.encoder.encode(rows))), kind="stable")
        return rows[order[:count]]

    def _ready(self) -> bool:
        return len(self.rows) >= self.initial and any(value is not None for value in self.values)

    def _random(self) -> Rows:
        return self.space.sample(self.generator, 1)[0]

    def _candidates(self, count: int, least: int) -> Rows:
        """Up to ``count`` different rows that were not told; others too where there are not ``least`` of these."""
        kept = [i for i, value in enumerate(self.values) if value is not None]
        best = sorted(kept, key=lambda i: -self._value(i))[: self.parents]
        found: dict[tuple[int, ...], Rows] = {}
        for number in range(_TRIES * count):
            if len(found) == count:
                break
            chance = self.generator.random() < _RANDOM_SHARE
            parent = self.rows[best[number % len(best)]]
            row = self._random() if chance else self.space.mutate(self.generator, parent)
            if tuple(row.tolist()) not in self.seen:
                found.setdefault(tuple(row.tolist()), row)
        rows = list(found.values())
        return np.stack([*rows, *(self._random() for _ in range(least - len(rows)))])

    def _value(self, index: int) -> float:
        value = self.values[index]
        return -np.inf if value is None else value

    def _acquire(self, mean: Scores, deviation: Scores) -> Scores:
        if self.acquisition == "its":
            return mean + deviation * self.generator.standard_normal(len(mean))
        best = max(self._value(i) for i in range(self.fitted))
        scale = np.maximum(deviation, 1e-12)
        gain = (mean - best) / scale
        improvement: Scores = scale * (gain * norm.cdf(gain) + norm.pdf(gain))
        return improvement

    def _learned(self) -> Predictor:
        """The predictor, fitted again where a batch was told since."""
        if self.fitted == 0 or len(self.rows) - self.fitted >= self.batch:
            self.fitted = len(self.rows)
            self.fit_seed = int(self.generator.integers(2**31))
            self.model = None
        if self.model is None:
            self.model = self._fit()
        return self.model

    def _fit(self) -> Predictor:
        values = [self._value(i) for i in range(self.fitted)]
        kept = np.array([value for value in values if value > -np.inf])
        worst = kept.min() - kept.std()
        scores = np.array([value if value > -np.inf else worst for value in values])
        model = make_predictor(self.predictor, self.fit_seed)
        model.fit(self.encoder.learn(np.array(self.rows[: self.fitted], np.int64)), scores)
        return model

    def learn(self, rows: Rows, values: Values, violations: Values) -> None:
        for row, value, violation in zip(rows.tolist(), values[:, 0].tolist(), violations.tolist(), strict=True):
            self.rows.append(row)
            self.values.append(None if violation > 0 else value)

    def save(self) -> State:
        return {"rows": list(self.rows), "values": list(self.values), "fitted": self.fitted, "fit_seed": self.fit_seed}

    def load(self, own: dict[str, Any]) -> None:
        self.rows, self.values = list(own["rows"]), list(own["values"])
        self.fitted, self.fit_seed = own["fitted"], own["fit_seed"]
        self.model = None  # fitted again when it is asked, from the same rows and seed: to the same bits
