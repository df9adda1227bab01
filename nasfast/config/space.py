"""What the settings of every search that proposes architectures of a space by name have in common."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Self

from nasfast.config.base import SPACE_PANEL, named_texts, option
from nasfast.config.budget import Budget
from nasfast.config.data import DataOptions, ImageSearchConfig
from nasfast.config.objectives import Constraint, Objective
from nasfast.config.settings import Settings
from nasfast.errors import ConfigError
from nasfast.spaces.registry import DIGITS, make_space
from nasfast.strategies.registry import make_strategy

if TYPE_CHECKING:
    from nasfast.spaces.base import Space
    from nasfast.strategies.base import Strategy

_FRONTS = ("nsga2", "lamarckian")
_NO_LIMIT = 2**31 - 1


@dataclass(frozen=True)
class SpaceChoice(DataOptions, panel=SPACE_PANEL):
    """The space, with its settings."""

    space: str = option("nasbench201", "The space, by name.")
    space_set: tuple[str, ...] = option(
        (), "Setting of the space, like channels=8. Default: the size of its paper. May be repeated."
    )

    @classmethod
    def of(cls, settings: Mapping[str, Any]) -> Self:
        """From values by name, such as those of a config.json. A space that is to see the digits is small.

        Raises:
            ConfigError: An unknown name, a value of another type or out of range.
        """
        return cls(**cls.fitted(cls.typed(settings)))

    @classmethod
    def fitted(cls, given: Mapping[str, Any]) -> dict[str, Any]:
        """The settings with those of a small space, where they do not say otherwise and the images are the digits."""
        if given.get("data", cls.data) != "digits":
            return dict(given)
        small = DIGITS.get(given.get("space", cls.space), {})
        texts = {**small, **named_texts("--space-set", given.get("space_set", ()))}
        return {**given, "space_set": tuple(f"{name}={value}" for name, value in texts.items())}

    def make_space(self) -> Space:
        """The space, at the size of its paper where ``space_set`` does not say otherwise."""
        return make_space(self.space, self.space_settings())

    def space_settings(self) -> dict[str, str]:
        """Settings of the space, as text by name."""
        return named_texts("--space-set", self.space_set)


@dataclass(frozen=True)
class TableOptions(Settings, panel=SPACE_PANEL):
    """A table to look architectures up in."""

    table: str = option("", "File with a score per architecture: .npz of NAS-Bench-201, .json or .csv.")
    table_data: str = option("cifar10", "Data set, where the table has several.")


@dataclass(frozen=True)
class SpaceOptions(SpaceChoice, ImageSearchConfig, panel=SPACE_PANEL):
    """The space, and what is searched for in it."""

    strategy: str = option("regularized-evolution", "How to search.")
    evaluations: int = option(300, "Architectures to evaluate.", 1)
    ask: int = option(1, "Architectures that the strategy proposes at a time.", 1)
    objective: tuple[str, ...] = option(
        (), "What to maximise, or with a minus to minimise: score, -params, -flops ... Repeat for a front."
    )
    constraint: tuple[str, ...] = option(
        (), "Hard limit, like 'params<=1.5M' or, of an accuracy, 'score>=0.9'. May be repeated."
    )
    latency: str = option(
        "", "File of latencies per operation, for the metric latency (ms); what it lacks is measured and added."
    )
    set: tuple[str, ...] = option(
        (), "Setting of the strategy, like population=20; of enas: of its controller. May be repeated."
    )
    estimator: str = option(
        "table",
        "What says how good an architecture is: table; zero-cost, what an untrained network says on one batch; train, "
        "training it from scratch; extrapolate, the start of it and where its curve leads; inherit, training "
        "it from its parent's weights; or oneshot, a weight-shared network trained on the images. With --data "
        "and without --table it is zero-cost, or oneshot where the sizes of layers are searched.",
    )

    def check(self) -> None:
        super().check()
        self.search_strategy()
        self.objectives()
        self.constraints()

    @classmethod
    def typed(cls, settings: Mapping[str, Any]) -> dict[str, Any]:
        """See :meth:`Settings.typed`; there is one limit of evaluations."""
        given = super().typed(settings)
        if given.get("budget") and "evaluations" in given:
            count = given["evaluations"]
            raise ConfigError(
                f"--evaluations {count} is --budget '{count} trials'; leave it out where a budget is given, got "
                f"{given['budget']!r}"
            )
        return given

    def to_dict(self) -> dict[str, Any]:
        """Plain values by name; of budget and evaluations that which counts."""
        omitted = {"evaluations"} if self.budget else set()
        return {name: value for name, value in super().to_dict().items() if name not in omitted}

    def limits(self) -> Budget:
        """What the search may cost."""
        return Budget.parse(self.budget) if self.budget else Budget(trials=self.evaluations)

    @property
    def most_evaluations(self) -> int:
        """Evaluations that neither the budget nor their own limit ends."""
        trials = self.limits().trials
        return _NO_LIMIT if trials is None else trials

    @property
    def search_name(self) -> str:
        """Name of what proposes architectures."""
        return self.strategy

    def strategy_settings(self) -> dict[str, str]:
        """Settings of the strategy, as text by name."""
        return named_texts("--set", self.set)

    def search_strategy(self) -> Strategy:
        """What proposes architectures."""
        return make_strategy(self.search_name, self.strategy_settings())

    def objectives(self) -> tuple[Objective, ...]:
        """What to search for; by default the score, for what finds fronts with as few parameters as it takes."""
        default = ("score", "-params") if self.search_name in _FRONTS else ("score",)
        return tuple(Objective.parse(text) for text in self.objective or default)

    @property
    def goals(self) -> str:
        """The objectives as text."""
        return ", ".join(map(str, self.objectives()))

    @property
    def front(self) -> str:
        """A strategy that can follow several objectives."""
        return "lamarckian" if self.estimator == "inherit" else "nsga2"

    def constraints(self) -> tuple[Constraint, ...]:
        """Hard limits."""
        return tuple(Constraint.parse(text) for text in self.constraint)
