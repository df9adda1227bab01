"""What a search is after: objectives and hard constraints over the metrics of an architecture."""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from nasfast.errors import ConfigError
from nasfast.utils.numbers import ACCURACIES
from nasfast.utils.suggest import did_you_mean

Metrics = Mapping[str, float]

FIDELITY = "fidelity"
"""Metric of the epochs that a trial of a search at several fidelities was given."""


@dataclass(frozen=True)
class Objective:
    """A metric to make large, or small. Text form: ``score``, or ``-params`` for what is to be small."""

    metric: str
    maximise: bool = True

    @classmethod
    def parse(cls, text: str) -> Objective:
        """Read the text form."""
        match = re.fullmatch(r"\s*([+-]?)\s*([A-Za-z_]\w*)\s*", text)
        if match is None:
            raise ConfigError(f"--objective must be a metric like score or -params (to be small), got {text!r}")
        return cls(match[2], match[1] != "-")

    def __str__(self) -> str:
        return self.metric if self.maximise else f"-{self.metric}"

    def value(self, metrics: Metrics) -> float:
        """The metric, with its sign turned where it is to be small."""
        number = lookup(metrics, self.metric, "--objective")
        return number if self.maximise else -number


@dataclass(frozen=True)
class Constraint:
    """A limit that an architecture must keep. Text form: ``params<=1.5e6`` or ``score>=0.9``."""

    metric: str
    upper: bool
    limit: float

    @classmethod
    def parse(cls, text: str) -> Constraint:
        """Read the text form; numbers may end in K, M or G."""
        match = re.fullmatch(r"\s*([A-Za-z_]\w*)\s*(<=|>=)\s*([^\s]+?)([KMG]?)\s*", text)
        try:
            limit = float(match[3]) * {"": 1, "K": 1e3, "M": 1e6, "G": 1e9}[match[4]] if match else math.nan
        except ValueError:
            limit = math.nan
        if match is None or not math.isfinite(limit):
            raise ConfigError(f"--constraint must be like params<=1.5M or score>=0.9, got {text!r}")
        if match[1] in ACCURACIES and not 0 <= limit <= 1:
            raise ConfigError(f"--constraint: {match[1]} is a fraction from 0 to 1, got {text!r}")
        return cls(match[1], match[2] == "<=", limit)

    def __str__(self) -> str:
        return f"{self.metric}{'<=' if self.upper else '>='}{self.limit:.15g}"

    def violation(self, metrics: Metrics) -> float:
        """How far the metric is beyond the limit, relative to the limit; 0 where it keeps it."""
        excess = lookup(metrics, self.metric, "--constraint") - self.limit
        excess = excess if self.upper else -excess
        return max(0.0, excess / (abs(self.limit) or 1.0))


def lookup(metrics: Metrics, name: str, option: str) -> float:
    """A metric by name, or an error that names those there are."""
    if name not in metrics:
        known = ", ".join(sorted(metrics))
        hint = did_you_mean(name, metrics)
        raise ConfigError(f"{option}: there is no metric {name!r}; expected one of {known}{hint}")
    return metrics[name]


def total_violation(constraints: Iterable[Constraint], metrics: Metrics) -> float:
    """Sum over all constraints; 0 where all are kept."""
    return sum(constraint.violation(metrics) for constraint in constraints)
