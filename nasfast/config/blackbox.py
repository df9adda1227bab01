"""The settings of a black-box search. The command line is made from these fields, as from those of SearchConfig."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from typing import TYPE_CHECKING, Any, get_type_hints

from nasfast.config.base import check_value, convert_value, named_texts, option, option_name, space_set_for
from nasfast.config.budget import check_budget
from nasfast.config.objectives import Objective
from nasfast.config.space import SPACE_PANEL, check_one_limit
from nasfast.config.workers import WORKERS, WorkerOptions
from nasfast.errors import ConfigError, SpaceError
from nasfast.estimators.curves import FEWEST
from nasfast.estimators.zero_cost import PROXIES, check_proxies
from nasfast.spaces.hyperparameters import TUNABLE, parse_tuned
from nasfast.spaces.registry import make_space
from nasfast.strategies.registry import MORPHISM, MULTI_FIDELITY, make_strategy

if TYPE_CHECKING:
    from nasfast.spaces.base import Space

IMAGES = ("data", "data_root", "download", "skip_bad", "test_fraction", "device")
"""Options of every estimator that looks at images."""

_TRAININGS = (*IMAGES, "epochs", "batch_size", "lr", "held_out", "fidelity_images", "fidelity_size", "fidelity_set")

ESTIMATORS: dict[str, tuple[str, ...]] = {
    "table": ("table", "table_data", "epochs_seen"),
    "zero-cost": (*IMAGES, *WORKERS, "proxy", "proxy_images", "proxy_draws"),
    "train": (*_TRAININGS, *WORKERS, "min_epochs", "continue_rungs", "stop_early", "tune"),
    "extrapolate": (*_TRAININGS, *WORKERS, "observe"),
    "inherit": (*_TRAININGS, *WORKERS, "first_epochs", "inherited_lr", "supernet"),
}
"""Estimators by name, and the options that belong to each; what stands nowhere here belongs to the search."""

_ELSEWHERE = frozenset({"crop_pad", "flip", "cutout", "checkpoint_steps"})
"""Settings of searches that train one network on images."""

_ZERO_COST, _TRAIN = "Zero-cost proxies", "Training of each architecture"


@dataclass(frozen=True)
class BlackBoxConfig(WorkerOptions):
    """Settings of a search with a black-box strategy; :meth:`of` has defaults that suit a data set.

    Raises:
        ConfigError: A value is out of range, or two do not go together; the message names the option.
    """

    strategy: str = option("regularized-evolution", "How to search.", SPACE_PANEL)
    estimator: str = option(
        "table",
        "What says how good an architecture is: table; zero-cost, what an untrained network says on one batch; train, "
        "training it from scratch; extrapolate, the start of it and where its curve leads; inherit, training "
        "it from its parent's weights; or oneshot, a weight-shared network trained on the images.",
        SPACE_PANEL,
    )
    table: str = option("", "File with a score per architecture: .npz of NAS-Bench-201, .json or .csv.", SPACE_PANEL)
    table_data: str = option("cifar10", "Data set, where the table has several.", SPACE_PANEL)
    epochs_seen: int | None = option(
        None, "Epochs of training that the search sees the score of. Default: the most there are.", SPACE_PANEL, 1
    )
    proxy: tuple[str, ...] = option(
        (),
        f"Of {', '.join(PROXIES)}. The first is the score, all are metrics. May be repeated. Default: synflow.",
        _ZERO_COST,
    )
    proxy_images: int = option(64, "Train images in the batch that the proxies see.", _ZERO_COST, 2)
    proxy_draws: int = option(
        1, "Draws of the weights to average over; two or more give an uncertainty.", _ZERO_COST, 1
    )
    epochs: int = option(20, "Passes over the images.", _TRAIN, 1)
    min_epochs: int = option(
        1,
        "With asha, hyperband, bohb or successive-halving: epochs that each architecture is trained for at least.",
        _TRAIN,
        1,
    )
    continue_rungs: bool = option(
        False,
        "With asha, hyperband, bohb or successive-halving: go on from the training of the rung below, by the schedule "
        "of --epochs, and not from scratch at each rung.",
        _TRAIN,
    )
    observe: int = option(
        6,
        "With --estimator extrapolate: epochs that each architecture is trained for, of a schedule of --epochs.",
        _TRAIN,
        FEWEST,
    )
    stop_early: float | None = option(
        None,
        "With --estimator train: stop a training whose probability to beat the best one so far falls below this bound, "
        "like 0.05; under 0.01 nothing stops. Default: train to the end.",
        _TRAIN,
    )
    first_epochs: int = option(
        20, "With --estimator inherit: epochs of architectures that have no parent; others have --epochs.", _TRAIN, 1
    )
    batch_size: int = option(96, "Images per step.", _TRAIN, 2)
    lr: float = option(0.025, "Learning rate in the first epoch.", _TRAIN, 0)
    inherited_lr: float | None = option(
        None,
        "With --estimator inherit: learning rate in the first epoch of what has a parent. Default: as --lr.",
        _TRAIN,
        0,
    )
    supernet: str = option(
        "",
        "With --estimator inherit: run folder of a search with --estimator oneshot, from whose shared network what has "
        "no parent starts, for --epochs. Default: from scratch, for --first-epochs.",
        _TRAIN,
    )
    held_out: float = option(
        0.2,
        "Share of the train images that no weight learns from; architectures are compared on them.",
        _TRAIN,
        0.01,
        0.9,
    )
    fidelity_images: float = option(1.0, "Share of the images to train on; the rest is left out.", _TRAIN, 1e-6, 1)
    fidelity_size: int | None = option(
        None, "Pixels a side that images are averaged down to. Default: as they are.", _TRAIN, 1
    )
    fidelity_set: tuple[str, ...] = option(
        (),
        "Setting of a smaller space, like channels=4, whose networks are trained in place of the searched ones. May be "
        "repeated.",
        _TRAIN,
    )
    tune: tuple[str, ...] = option(
        (),
        "With --estimator train: search this training setting too, like lr=0.01..0.2 (8 values) or cutout=0,2,4. Of "
        f"{', '.join(TUNABLE)}; in place of one value for all. May be repeated.",
        _TRAIN,
    )
    checkpoint_seconds: float = option(60.0, "Write a checkpoint after so many seconds.", "Run", 0)

    def __post_init__(self) -> None:
        for f in fields(self):
            check_value(f, _TYPES[f.name], getattr(self, f.name))
        if self.estimator not in ESTIMATORS:
            raise ConfigError(f"--estimator must be one of {', '.join(ESTIMATORS)}, got {self.estimator!r}")
        if self.estimator == "table" and not self.table:
            raise ConfigError("--estimator table needs --table FILE, the scores to look up")
        check_budget(self.budget, self.device)
        self.check_workers()
        if self.proxy:
            check_proxies(self.proxy)
        parse_tuned(self.tune)
        if self.fidelity_set:
            self.smaller_space()
        if self.min_epochs > 1 and self.strategy not in MULTI_FIDELITY:
            raise ConfigError(
                f"--min-epochs goes with --strategy {', '.join(MULTI_FIDELITY)}, got --strategy {self.strategy}"
            )
        if self.continue_rungs and self.strategy not in MULTI_FIDELITY:
            raise ConfigError(
                f"--continue-rungs goes with --strategy {', '.join(MULTI_FIDELITY)}, got --strategy {self.strategy}"
            )
        self._check_lineage()
        strategy = make_strategy(self.strategy, self.strategy_settings())
        goals, _ = self.objectives(), self.constraints()
        if len(goals) > 1 and not strategy.many_objectives:
            other = "lamarckian" if self.estimator == "inherit" else "nsga2"
            raise ConfigError(
                f"--strategy {self.strategy} follows one objective, got {', '.join(map(str, goals))}; use {other}, or "
                "limit the others by --constraint"
            )
        if self.estimator == "extrapolate" and self.observe >= self.epochs:
            raise ConfigError(f"--observe must be below --epochs {self.epochs}, got {self.observe}")
        if self.estimator == "train" and self.stop_early is not None:
            self._check_stop(self.stop_early)

    def _check_stop(self, bound: float) -> None:
        """Raise ConfigError where trainings cannot be stopped early."""
        if not 0 < bound < 1:
            raise ConfigError(f"--stop-early must be a probability above 0 and below 1, got {bound}")
        if self.epochs <= FEWEST:
            raise ConfigError(f"--stop-early needs --epochs {FEWEST + 1} or more, got {self.epochs}")
        if self.workers:
            raise ConfigError(
                "--stop-early compares each training with the best one so far, which --workers do not share; leave out "
                "one of the two"
            )
        if self.strategy in MULTI_FIDELITY:
            raise ConfigError(
                f"--stop-early needs trainings of one length, and --strategy {self.strategy} has several; it stops "
                "early by itself"
            )
        if self.objectives() != (Objective("score"),):
            raise ConfigError(
                "--stop-early stops what will not beat the best score, which other objectives may want: got "
                f"{', '.join(map(str, self.objectives()))}"
            )

    def rungs(self) -> tuple[int, ...]:
        """Epochs of the trainings of a strategy at several fidelities, rising.

        Raises:
            ConfigError: There are fewer than two.
        """
        reduction = make_strategy(self.strategy, self.strategy_settings()).settings()["reduction"]
        rungs = [self.epochs]
        while rungs[-1] // reduction >= self.min_epochs:
            rungs.append(rungs[-1] // reduction)
        if len(rungs) < 2:
            raise ConfigError(
                f"--strategy {self.strategy} needs several numbers of epochs; --epochs {self.epochs} leaves no smaller "
                f"one of --min-epochs {self.min_epochs} or more"
            )
        return tuple(reversed(rungs))

    def make_space(self) -> Space:
        """The space by its name, with the training settings that are tuned."""
        return self.tuned(super().make_space())

    def tuned(self, space: Space) -> Space:
        """A space of architectures with the training settings that are tuned; one that has settings as it is.

        Raises:
            SpaceError: It has others.
        """
        from nasfast.spaces.joint import JointSpace

        settings = parse_tuned(self.tune)
        if isinstance(space, JointSpace):
            if settings and settings != space.settings:
                raise SpaceError(f"--tune {' '.join(self.tune)}: the space has {' '.join(space.options())}")
            return space
        return JointSpace(space, settings) if settings else space

    def _check_lineage(self) -> None:
        """Raise ConfigError where weights are to be inherited and no parent is known, or the other way round."""
        inherits = self.estimator == "inherit"
        if self.strategy in MORPHISM and not inherits:
            raise ConfigError(
                f"--strategy {self.strategy} goes with --estimator inherit, got --estimator {self.estimator}"
            )
        if inherits and self.strategy not in MORPHISM:
            raise ConfigError(
                f"--estimator inherit goes with --strategy {', '.join(MORPHISM)}, got --strategy {self.strategy}"
            )

    def smaller_space(self) -> Space | None:
        """The space whose networks are trained in place of those of the searched one; None: itself."""
        return self.tuned(make_space(self.space, self.trained_settings())) if self.fidelity_set else None

    def trained_settings(self) -> dict[str, str]:
        """Settings of the space whose networks are trained, as text by name."""
        return self.space_settings() | named_texts("--fidelity-set", self.fidelity_set)

    @property
    def sees_images(self) -> bool:
        """Whether the estimator looks at images."""
        return "data" in ESTIMATORS[self.estimator]

    def to_dict(self) -> dict[str, Any]:
        """Plain values by name, without those of other estimators."""
        return {name: value for name, value in super().to_dict().items() if name in options_of(self.estimator)}

    def run_name(self) -> str:
        """What its run folder is called, where nobody says."""
        return f"{self.space}-{self.strategy}"

    @classmethod
    def of(cls, settings: Mapping[str, Any]) -> BlackBoxConfig:
        """From values by name, such as those of a config.json. A space that is scored on the digits is small.

        Raises:
            ConfigError: An unknown name, one of another estimator, a value of another type or out of range.
        """
        given = {}
        estimator = settings.get("estimator", "table")
        known = options_of(estimator)
        for name, value in settings.items():
            owners = [owner for owner, names in ESTIMATORS.items() if name in names]
            if name not in known and owners:
                raise ConfigError(
                    f"{option_name(name)} belongs to --estimator {_any_of(owners)}, got --estimator {estimator}"
                )
            if name not in known:
                raise ConfigError(
                    f"{option_name(name)} does not go with --space; a search of a space has "
                    f"{', '.join(map(option_name, known))}"
                )
            given[name] = convert_value(name, _TYPES[name], value)
        check_one_limit(given)
        if "data" in known:
            space = given.get("space", "nasbench201")
            chosen = space_set_for(given.get("data", "digits"), space, given.get("space_set", ()))
            given["space_set"] = chosen
        return cls(**given)


_TYPES: dict[str, Any] = get_type_hints(BlackBoxConfig)


def _any_of(names: Sequence[str]) -> str:
    *others, last = names
    return f"{', '.join(others)} or {last}" if others else last


def options_of(estimator: str) -> tuple[str, ...]:
    """Names of the settings of a search with this estimator."""
    others = {name for names in ESTIMATORS.values() for name in names} | _ELSEWHERE
    own = ESTIMATORS.get(estimator, ())
    return tuple(name for name in _TYPES if name in own or name not in others)
