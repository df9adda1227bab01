"""Trials of a fit: what is tried, with what, and how far it went, so that the same can be tried again."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

from nasfast.automl.members.base import Candidate
from nasfast.automl.members.boosting import BoostingSettings, fit_boosting
from nasfast.automl.members.constant import fit_constant
from nasfast.automl.members.linear import fit_linear
from nasfast.automl.members.network import fit_network
from nasfast.automl.metrics import Metric
from nasfast.automl.network.settings import NetworkSettings
from nasfast.automl.prepare import Preparation
from nasfast.automl.problem import Problem
from nasfast.errors import RunError

FAMILIES = ("constant", "linear", "boosting", "network")


@dataclass(frozen=True)
class Trial:
    """One candidate before it is trained.

    Attributes:
        settings: Of its family.
        size: How far an earlier training of it went: strengths tried, iterations reached, or steps planned and done.
            None: as the time allows.
    """

    name: str
    family: str
    settings: Mapping[str, Any] = field(default_factory=dict)
    seed: int = 0
    size: tuple[int, ...] | None = None

    def to_json(self) -> dict[str, Any]:
        """As an object of JSON."""
        return asdict(self) | {"size": None if self.size is None else list(self.size)}

    @classmethod
    def from_json(cls, content: Mapping[str, Any]) -> Trial:
        """The one that :meth:`to_json` gave.

        Raises:
            RunError: It is not of that form.
        """
        try:
            size = content["size"]
            trial = cls(
                str(content["name"]),
                str(content["family"]),
                dict(content["settings"]),
                int(content["seed"]),
                None if size is None else tuple(map(int, size)),
            )
        except (KeyError, TypeError, ValueError) as error:
            raise RunError(f"trial must have name, family, settings, seed and size, got {content!r:.80}") from error
        if trial.family not in FAMILIES:
            raise RunError(f"trial {trial.name!r} is of an unknown family {trial.family!r}")
        return trial


def run_trial(
    trial: Trial,
    problem: Problem,
    metric: Metric,
    preparation: Preparation,
    seconds: float | None,
    most_epochs: int,
    on_step: Callable[[int, int], None] | None = None,
) -> tuple[Candidate | None, Trial]:
    """Train a candidate for about ``seconds``; what came of it, and the trial with the size that it reached."""
    if trial.family == "constant":
        return fit_constant(problem), trial
    if trial.family == "linear":
        linear = fit_linear(problem, metric, seconds, trial.size[0] if trial.size is not None else None)
        return linear, _reached(trial, linear, "tried")
    if trial.family == "boosting":
        reached = trial.size[0] if trial.size is not None else None
        candidate = fit_boosting(problem, metric, BoostingSettings(**trial.settings), trial.name, seconds, reached)
        return candidate, _reached(trial, candidate, "reached")
    steps = (trial.size[0], trial.size[1]) if trial.size is not None else None
    settings = NetworkSettings(**trial.settings)
    candidate = fit_network(
        problem, metric, preparation, settings, trial.name, seconds, most_epochs, trial.seed, steps, on_step
    )
    return candidate, _reached(trial, candidate, "planned", "done")


def _reached(trial: Trial, candidate: Candidate | None, *names: str) -> Trial:
    size = None if candidate is None else tuple(int(candidate.notes[name]) for name in names)
    return Trial(trial.name, trial.family, trial.settings, trial.seed, size)
