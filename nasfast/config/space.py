"""What the settings of every search that proposes architectures of a space by name have in common."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

from nasfast.config.base import named_texts, option
from nasfast.config.budget import Budget
from nasfast.config.data import ImageSearchConfig
from nasfast.config.objectives import Constraint, Objective
from nasfast.errors import ConfigError
from nasfast.spaces.registry import make_space

if TYPE_CHECKING:
    from nasfast.spaces.base import Space

SPACE_PANEL = "Search of a space"

_FRONTS = ("nsga2", "lamarckian")
_NO_LIMIT = 2**31 - 1


def check_one_limit(settings: Mapping[str, Any]) -> None:
    """Raise ConfigError where settings give a number of evaluations and a budget."""
    if settings.get("budget") and "evaluations" in settings:
        count = settings["evaluations"]
        raise ConfigError(
            f"--evaluations {count} is --budget '{count} trials'; leave it out where a budget is given, got "
            f"{settings['budget']!r}"
        )


@dataclass(frozen=True)
class SpaceOptions(ImageSearchConfig):
    """The space, and what is searched for in it."""

    space: str = option("nasbench201", "Search this space, by name.", SPACE_PANEL)
    space_set: tuple[str, ...] = option(
        (), "Setting of the space, like channels=8. Default: the size of its paper. May be repeated.", SPACE_PANEL
    )
    strategy: str = option("", "How to search.", SPACE_PANEL)
    evaluations: int = option(300, "Architectures to evaluate.", SPACE_PANEL, 1)
    ask: int = option(1, "Architectures that the strategy proposes at a time.", SPACE_PANEL, 1)
    objective: tuple[str, ...] = option(
        (), "What to maximise, or with a minus to minimise: score, -params, -flops ... Repeat for a front.", SPACE_PANEL
    )
    constraint: tuple[str, ...] = option((), "Hard limit, like 'params<=1.5M'. May be repeated.", SPACE_PANEL)
    latency: str = option(
        "",
        "File of latencies per operation, for the metric latency (ms); what it lacks is measured and added.",
        SPACE_PANEL,
    )
    set: tuple[str, ...] = option(
        (), "Setting of the strategy, like population=20; of enas: of its controller. May be repeated.", SPACE_PANEL
    )

    def to_dict(self) -> dict[str, Any]:
        """Plain values by name; of budget and evaluations that which counts."""
        omitted = {"evaluations"} if self.budget else set()
        values = {name: list(value) if isinstance(value, tuple) else value for name, value in asdict(self).items()}
        return {name: value for name, value in values.items() if name not in omitted}

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
        """What proposes architectures."""
        return self.strategy

    def make_space(self) -> Space:
        """The space, at the size of its paper where ``space_set`` does not say otherwise."""
        return make_space(self.space, self.space_settings())

    def space_settings(self) -> dict[str, str]:
        """Settings of the space, as text by name."""
        return named_texts("--space-set", self.space_set)

    def strategy_settings(self) -> dict[str, str]:
        """Settings of the strategy, as text by name."""
        return named_texts("--set", self.set)

    def objectives(self) -> tuple[Objective, ...]:
        """What to search for; by default the score, for what finds fronts with as few parameters as it takes."""
        default = ("score", "-params") if self.search_name in _FRONTS else ("score",)
        return tuple(Objective.parse(text) for text in self.objective or default)

    def constraints(self) -> tuple[Constraint, ...]:
        """Hard limits."""
        return tuple(Constraint.parse(text) for text in self.constraint)
