"""The settings of a black-box search. The command line is made from these fields, as from those of SearchConfig."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Any, get_type_hints

from nasfast.config import check_value, convert_value, option, option_name
from nasfast.errors import ConfigError
from nasfast.space_options import SPACE_PANEL, SpaceOptions
from nasfast.strategies.registry import make_strategy

ESTIMATORS = ("table",)
_RUN = "Run"


@dataclass(frozen=True)
class BlackBoxConfig(SpaceOptions):
    """Settings of a search with a black-box strategy.

    Raises:
        ConfigError: A value is out of range, or two do not go together; the message names the option.
    """

    strategy: str = option("regularized-evolution", "How to search.", SPACE_PANEL)
    estimator: str = option(
        "table",
        "What says how good an architecture is: table, or oneshot, a weight-shared network trained on the images.",
        SPACE_PANEL,
    )
    table: str = option("", "File with a score per architecture: .npz of NAS-Bench-201, .json or .csv.", SPACE_PANEL)
    table_data: str = option("cifar10", "Data set, where the table has several.", SPACE_PANEL)
    budget: int | None = option(
        None, "Epochs of training that the search sees the score of. Default: the most there are.", SPACE_PANEL, 1
    )
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
            given[name] = convert_value(name, _TYPES[name], value)
        return cls(**given)


_TYPES: dict[str, Any] = get_type_hints(BlackBoxConfig)
