"""The settings of a black-box search. The command line is made from these fields, as from those of SearchConfig."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from typing import Any, get_type_hints

from nasfast.config import check_value, named_texts, option, option_name
from nasfast.errors import ConfigError
from nasfast.objectives import Constraint, Objective
from nasfast.spaces.base import Space
from nasfast.spaces.registry import make_space
from nasfast.strategies.registry import make_strategy

ESTIMATORS = ("table",)
_SPACE, _RUN = "Search of a space", "Run"


@dataclass(frozen=True)
class BlackBoxConfig:
    """Settings of a search with a black-box strategy.

    Raises:
        ConfigError: A value is out of range, or two do not go together; the message names the option.
    """

    space: str = option("nasbench201", "Search this space, by name, with a black-box strategy.", _SPACE)
    space_set: tuple[str, ...] = option(
        (), "Setting of the space, like channels=8. Default: the size of its paper. May be repeated.", _SPACE
    )
    strategy: str = option("regularized-evolution", "How to search.", _SPACE)
    estimator: str = option(
        "table",
        "What says how good an architecture is: table, or oneshot, a weight-shared network trained on the images.",
        _SPACE,
    )
    table: str = option("", "File with a score per architecture: .npz of NAS-Bench-201, .json or .csv.", _SPACE)
    table_data: str = option("cifar10", "Data set, where the table has several.", _SPACE)
    budget: int | None = option(
        None, "Epochs of training that the search sees the score of. Default: the most there are.", _SPACE, 1
    )
    evaluations: int = option(300, "Architectures to evaluate.", _SPACE, 1)
    ask: int = option(1, "Architectures that the strategy proposes at a time.", _SPACE, 1)
    objective: tuple[str, ...] = option(
        (), "What to maximise, or with a minus to minimise: score, -params, -flops ... Repeat for a front.", _SPACE
    )
    constraint: tuple[str, ...] = option((), "Hard limit, like 'params<=1.5M'. May be repeated.", _SPACE)
    latency: str = option(
        "", "File of latencies per operation, for the metric latency (ms); what it lacks is measured and added.", _SPACE
    )
    set: tuple[str, ...] = option((), "Setting of the strategy, like population=20. May be repeated.", _SPACE)
    seed: int = option(0, "Seed of everything random.", _RUN, 0)
    threads: int = option(0, "CPU threads; 0: as torch decides.", _RUN, 0)
    checkpoint_seconds: float = option(60.0, "Write a checkpoint after so many seconds.", _RUN, 0)

    def __post_init__(self) -> None:
        for f in fields(self):
            check_value(f, _TYPES[f.name], getattr(self, f.name))
        if self.estimator not in ESTIMATORS:
            raise ConfigError(f"--estimator must be one of {', '.join(ESTIMATORS)}, got {self.estimator!r}")
        if not self.table:
            raise ConfigError("--estimator table needs --table FILE, the scores to look up")
        strategy = make_strategy(self.strategy, self.strategy_settings())
        goals, _ = self.objectives(), self.constraints()
        if len(goals) > 1 and not strategy.many_objectives:
            raise ConfigError(
                f"--strategy {self.strategy} follows one objective, got {', '.join(map(str, goals))}; use nsga2, or "
                "limit the others by --constraint"
            )

    @classmethod
    def of(cls, settings: Mapping[str, Any]) -> BlackBoxConfig:
        """From values by name, such as those of a config.json.

        Raises:
            ConfigError: An unknown name, a value of another type or out of range.
        """
        given = {}
        for name, value in settings.items():
            if name not in _TYPES:
                raise ConfigError(
                    f"{option_name(name)} does not go with --space; a search of a space has "
                    f"{', '.join(map(option_name, _TYPES))}"
                )
            given[name] = _convert(name, value)
        return cls(**given)

    def to_dict(self) -> dict[str, Any]:
        """Plain values by name."""
        return {name: list(value) if isinstance(value, tuple) else value for name, value in asdict(self).items()}

    def objectives(self) -> tuple[Objective, ...]:
        """What to search for; by default the score, for NSGA-II with as few parameters as it takes."""
        default = ("score", "-params") if self.strategy == "nsga2" else ("score",)
        return tuple(Objective.parse(text) for text in self.objective or default)

    def constraints(self) -> tuple[Constraint, ...]:
        """Hard limits."""
        return tuple(Constraint.parse(text) for text in self.constraint)

    def strategy_settings(self) -> dict[str, str]:
        """Settings of the strategy, as text by name."""
        return named_texts("--set", self.set)

    def make_space(self) -> Space:
        """The space, at the size of its paper where ``space_set`` does not say otherwise."""
        return make_space(self.space, named_texts("--space-set", self.space_set))


_TYPES: dict[str, Any] = get_type_hints(BlackBoxConfig)


def _convert(name: str, value: Any) -> Any:
    """A value from a file or a caller in the type of its field."""
    kind = _TYPES[name]
    if kind == tuple[str, ...]:
        if isinstance(value, (list, tuple)) and all(isinstance(item, str) for item in value):
            return tuple(value)
        raise ConfigError(f"setting {name!r} must be a list of texts, got {value!r}")
    if kind == int | None:
        if value is None:
            return None
        kind = int
    if kind is float and isinstance(value, int) and not isinstance(value, bool):
        return float(value)
    if not isinstance(value, kind) or isinstance(value, bool):
        raise ConfigError(f"setting {name!r} must be of type {kind.__name__}, got {value!r}")
    return value
