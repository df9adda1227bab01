"""The settings of a black-box search."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from nasfast.config.base import SPACE_PANEL, TRAIN_PANEL, named_texts, option, option_name
from nasfast.config.settings import Settings
from nasfast.config.space import TableOptions
from nasfast.config.weights import CandidateOptions
from nasfast.config.workers import WORKERS, WorkerOptions
from nasfast.errors import ConfigError, SpaceError
from nasfast.estimators.curves import FEWEST
from nasfast.estimators.zero_cost import PROXIES, check_proxies
from nasfast.spaces.hyperparameters import TUNABLE, parse_tuned
from nasfast.spaces.registry import make_space
from nasfast.strategies.registry import make_strategy
from nasfast.utils.suggest import must_be_one_of

if TYPE_CHECKING:
    from nasfast.spaces.base import Space

IMAGES = ("data", "data_root", "download", "skip_bad", "image_size", "test_fraction", "device")
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


@dataclass(frozen=True)
class ZeroCostOptions(Settings, panel="Zero-cost proxies"):
    """What an untrained network is looked at for."""

    proxy: tuple[str, ...] = option(
        (), f"Of {', '.join(PROXIES)}. The first is the score, all are metrics. May be repeated. Default: synflow."
    )
    proxy_images: int = option(64, "Train images in the batch that the proxies see.", 2)
    proxy_draws: int = option(1, "Draws of the weights to average over; two or more give an uncertainty.", 1)


@dataclass(frozen=True)
class BlackBoxConfig(CandidateOptions, ZeroCostOptions, TableOptions, WorkerOptions, panel=TRAIN_PANEL):
    """Settings of a search with a black-box strategy; :meth:`of` has defaults that suit a data set."""

    owner = "--space"

    epochs_seen: int | None = option(
        None, "Epochs of training that the search sees the score of. Default: the most there are.", 1, panel=SPACE_PANEL
    )
    min_epochs: int = option(
        1, "With asha, hyperband, bohb or successive-halving: epochs that each architecture is trained for at least.", 1
    )
    continue_rungs: bool = option(
        False,
        "With asha, hyperband, bohb or successive-halving: go on from the training of the rung below, by the schedule "
        "of --epochs, and not from scratch at each rung.",
    )
    observe: int = option(
        6,
        "With --estimator extrapolate: epochs that each architecture is trained for, of a schedule of --epochs.",
        FEWEST,
    )
    stop_early: float | None = option(
        None,
        "With --estimator train: stop a training whose probability to beat the best one so far falls below this bound, "
        "like 0.05; under 0.01 nothing stops. Default: train to the end.",
    )
    first_epochs: int = option(
        20, "With --estimator inherit: epochs of architectures that have no parent; others have --epochs.", 1
    )
    batch_size: int = 96
    inherited_lr: float | None = option(
        None, "With --estimator inherit: learning rate in the first epoch of what has a parent. Default: as --lr.", 0
    )
    supernet: str = option(
        "",
        "With --estimator inherit: run folder of a search with --estimator oneshot, from whose shared network what has "
        "no parent starts, for --epochs. Default: from scratch, for --first-epochs.",
    )
    fidelity_images: float = option(1.0, "Share of the images to train on; the rest is left out.", 1e-6, 1)
    fidelity_size: int | None = option(None, "Pixels a side that images are averaged down to. Default: as they are.", 1)
    fidelity_set: tuple[str, ...] = option(
        (),
        "Setting of a smaller space, like channels=4, whose networks are trained in place of the searched ones. May be "
        "repeated.",
    )
    tune: tuple[str, ...] = option(
        (),
        "With --estimator train: search this training setting too, like lr=0.01..0.2 (8 values) or cutout=0,2,4. Of "
        f"{', '.join(TUNABLE)}; in place of one value for all. May be repeated.",
    )
    checkpoint_seconds: float = option(help="Write a checkpoint after so many seconds.")

    def check(self) -> None:
        super().check()
        if self.estimator not in ESTIMATORS:
            raise ConfigError(f"--estimator {must_be_one_of(self.estimator, ESTIMATORS)}")
        if self.proxy:
            check_proxies(self.proxy)
        parse_tuned(self.tune)
        self.smaller_space()

    @property
    def stops_early(self) -> bool:
        """Whether trainings are stopped that will not beat the best one."""
        return self.stop_early is not None

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
        known = self.known({"estimator": self.estimator})
        return {name: value for name, value in super().to_dict().items() if name in known}

    def run_name(self) -> str:
        """What its run folder is called, where nobody says."""
        return f"{self.space}-{self.strategy}"

    @classmethod
    def known(cls, settings: Mapping[str, Any]) -> tuple[str, ...]:
        """See :meth:`Settings.known`: those of the estimator, and of every search."""
        own = ESTIMATORS.get(settings.get("estimator", cls.estimator), ())
        others = {name for names in ESTIMATORS.values() for name in names} | _ELSEWHERE
        return tuple(name for name in cls.types() if name in own or name not in others)

    @classmethod
    def unknown(cls, name: str, settings: Mapping[str, Any]) -> str:
        owners = [owner for owner, names in ESTIMATORS.items() if name in names]
        estimator = settings.get("estimator", cls.estimator)
        if not owners:
            return super().unknown(name, settings)
        return f"{option_name(name)} belongs to --estimator {_any_of(owners)}, got --estimator {estimator}"

    @classmethod
    def fitted(cls, given: Mapping[str, Any]) -> dict[str, Any]:
        """See :meth:`nasfast.config.space.SpaceChoice.fitted`; what has scores in a table stays as it is."""
        return super().fitted(given) if "data" in cls.known(given) else dict(given)


def _any_of(names: Sequence[str]) -> str:
    *others, last = names
    return f"{', '.join(others)} or {last}" if others else last
