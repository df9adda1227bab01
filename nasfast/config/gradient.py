"""Settings of a search by gradients."""

from __future__ import annotations

import difflib
import os
from collections.abc import Mapping
from dataclasses import MISSING, Field, asdict, dataclass, fields
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, get_type_hints

from nasfast.config.base import (
    ARCH_PANEL,
    GUARD_PANEL,
    NET_PANEL,
    RETRAIN_PANEL,
    SPACE_PANEL,
    TRAIN_PANEL,
    _without_none,
    check_value,
    convert_value,
    named_texts,
    option,
    option_name,
    read_content,
    space_set_for,
)
from nasfast.config.budget import check_budget
from nasfast.config.data import ImageSearchConfig
from nasfast.errors import ConfigError
from nasfast.spaces.registry import make_space
from nasfast.training.config import RetrainConfig

if TYPE_CHECKING:
    from nasfast.spaces.base import Space


@dataclass(frozen=True)
class SearchConfig(ImageSearchConfig):
    """Settings of a search. The defaults are those of the DARTS paper on CIFAR-10; see :meth:`for_data`.

    Raises:
        ConfigError: A value is out of range, or two do not go together; the message names the option.
    """

    space: str = option(
        "",
        "Search this space, by name; without, or with darts, a normal and a reduction cell by gradients.",
        SPACE_PANEL,
    )
    space_set: tuple[str, ...] = option(
        (), "Setting of the space, like channels=8. Default: the size of its paper. May be repeated.", SPACE_PANEL
    )
    table: str = option("", "File with a score per architecture: .npz of NAS-Bench-201, .json or .csv.", SPACE_PANEL)
    table_data: str = option("cifar10", "Data set, where the table has several.", SPACE_PANEL)

    strategy: Literal["darts", "pcdarts", "gdas", "snas", "drnas"] = option(
        "darts", "How to search; those from random on need --space.", NET_PANEL
    )
    channels: int = option(16, "Channels of a node in the first cell.", NET_PANEL, 1)
    layers: int = option(8, "Number of cells.", NET_PANEL, 1)
    steps: int = option(4, "Nodes of a cell.", NET_PANEL, 1)
    fused: bool = option(True, "Use the fused kernels, or the same network in plain PyTorch.", NET_PANEL)
    recompute: bool = option(False, "Repeat the forward of a cell in backward: less memory, more time.", NET_PANEL)

    epochs: int = option(50, "Passes over the train half of the train images.", TRAIN_PANEL, 1)
    batch_size: int = option(64, "Images per step.", TRAIN_PANEL, 2)
    lr: float = option(0.025, "Learning rate of the weights in the first epoch.", TRAIN_PANEL, 0)
    lr_min: float = option(0.001, "Learning rate that the cosine schedule falls to.", TRAIN_PANEL, 0)
    momentum: float = option(0.9, "Momentum of SGD.", TRAIN_PANEL, 0, 1)
    weight_decay: float = option(3e-4, "Weight decay of the weights.", TRAIN_PANEL, 0)
    grad_clip: float = option(5.0, "Largest norm of the weights' gradient.", TRAIN_PANEL, 1e-9)

    order: Literal["first", "second"] = option(
        "first", "Gradient of the architecture: at the weights, or unrolled.", ARCH_PANEL
    )
    arch_lr: float = option(3e-4, "Learning rate of the architecture (Adam).", ARCH_PANEL, 0)
    arch_weight_decay: float = option(1e-3, "Weight decay of the architecture.", ARCH_PANEL, 0)
    train_portion: float = option(
        0.5, "Share of the train images for the weights; the architecture gets the rest.", ARCH_PANEL, 0.01, 0.99
    )
    warmup_epochs: int = option(0, "First epochs in which only the weights learn.", ARCH_PANEL, 0)
    temperature: float | None = option(
        None, "Of the draws in the first epoch, for gdas and snas. Default: gdas 10, snas 1.", ARCH_PANEL, 1e-3
    )
    temperature_end: float | None = option(None, "The same of the last epoch. Default: 0.1.", ARCH_PANEL, 1e-3)
    anchor: float = option(1e-3, "Weight of drnas' distance from the flat distribution.", ARCH_PANEL, 0)

    guard: Literal["off", "log", "cap", "stop"] = option(
        "cap",
        "On signs of collapse: nothing, log them, cap the derived skip connections, or stop early.",
        GUARD_PANEL,
    )
    max_skips: int = option(2, "Skip connections that a normal cell, or an architecture, may hold.", GUARD_PANEL, 0)
    min_entropy: float = option(
        0.0, "Entropy of the operation weights (0 to 1) that is a collapse; 0: none is.", GUARD_PANEL, 0, 1
    )
    stable_epochs: int = option(10, "Epochs with an unchanged ranking that count as settled; 0: never.", GUARD_PANEL, 0)
    guard_from: int = option(0, "First epoch that the guard judges.", GUARD_PANEL, 0)

    retrain: bool = option(True, "Train the derived network, and a random one beside it.", RETRAIN_PANEL)
    retrain_epochs: int = option(600, "Epochs of each retraining.", RETRAIN_PANEL, 1)
    retrain_channels: int = option(36, "Channels of a node in the first cell of the derived network.", RETRAIN_PANEL, 1)
    retrain_layers: int = option(20, "Cells of the derived network.", RETRAIN_PANEL, 1)
    retrain_batch_size: int = option(96, "Images per step of a retraining.", RETRAIN_PANEL, 2)

    def __post_init__(self) -> None:
        for f in fields(self):
            check_value(f, field_type(f.name), getattr(self, f.name))
        if check_budget(self.budget, self.device).trials is not None:
            raise ConfigError(
                f"--budget {self.budget!r} counts trials, which a search by gradients has not; see --epochs"
            )
        if self.warmup_epochs >= self.epochs:
            raise ConfigError(
                f"--warmup-epochs {self.warmup_epochs} leaves none of {self.epochs} epochs to search in; expected fewer"
            )
        if self.lr_min > self.lr:
            raise ConfigError(f"--lr-min {self.lr_min} is above --lr {self.lr}; expected at most that")
        if self.strategy == "pcdarts" and self.channels % 4 and not self.of_space:
            raise ConfigError(f"--channels must be a multiple of 4 with --strategy pcdarts, got {self.channels}")
        if self.order == "second" and self.strategy not in ("darts", "pcdarts"):
            raise ConfigError(f"--order second needs weights that are not drawn, which {self.strategy} has")
        if (self.temperature, self.temperature_end) != (None, None) and self.strategy not in ("gdas", "snas"):
            raise ConfigError(f"--temperature belongs to gdas and snas, got --strategy {self.strategy}")
        for name in ("table", "space_set"):
            if getattr(self, name) and not self.space:
                raise ConfigError(
                    f"{option_name(name)} belongs to the search of a space; add --space, such as nasbench201"
                )
            if getattr(self, name) and not self.of_space:
                raise ConfigError(
                    f"{option_name(name)} does not go with --space {self.space}; see --channels, --layers"
                )

    @property
    def of_space(self) -> bool:
        """Whether an architecture of a space is searched, rather than a normal and a reduction cell."""
        return self.space not in ("", "darts")

    def make_space(self) -> Space | None:
        """The space that is searched; None for the cells of DARTS.

        Raises:
            SpaceError: An unknown space or setting.
        """
        return make_space(self.space, self.space_settings()) if self.of_space else None

    def space_settings(self) -> dict[str, str]:
        """Settings of the space, as text by name."""
        return named_texts("--space-set", self.space_set)

    def retrain_config(self) -> RetrainConfig:
        """How a run with these settings trains what it has found."""
        return RetrainConfig(
            channels=self.retrain_channels,
            layers=self.retrain_layers,
            epochs=self.retrain_epochs,
            batch_size=self.retrain_batch_size,
            seed=self.seed,
            device=self.device,
        )

    def temperatures(self) -> tuple[float | None, float | None]:
        """Of the first and the last epoch; None for the strategy's own."""
        return self.temperature, self.temperature_end

    def run_name(self) -> str:
        """What its run folder is called, where nobody says."""
        parts = [Path(self.data).resolve().name, *([self.space] if self.of_space else []), self.strategy]
        return "-".join(parts)

    @classmethod
    def of(cls, settings: Mapping[str, Any]) -> SearchConfig:
        """From values by name, such as those of a config.json; see :meth:`for_data`."""
        return cls.for_data(**settings)

    @classmethod
    def for_data(cls, data: str = "digits", **settings: Any) -> SearchConfig:
        """Settings that suit a data set and a strategy, with ``settings`` over them.

        PC-DARTS gets its paper's rates, batch and warm-up (15 of 50 epochs); the digits, which are small, get a small
        network (or a small one of the space) and few epochs.

        Raises:
            ConfigError: An unknown name, a value of another type or out of range.
        """
        given = {name: _convert(name, value) for name, value in settings.items()}
        merged: dict[str, Any] = {"data": data}
        space = str(given.get("space", ""))
        if space not in ("", "darts"):
            _refuse_cell_options(given, space)
            given["space_set"] = space_set_for(data, space, given.get("space_set", ()))
        if given.get("strategy") == "pcdarts":
            merged |= PCDARTS
        if data == "digits":
            merged |= DIGITS
        merged |= given
        if given.get("strategy") == "pcdarts" and "warmup_epochs" not in given:
            merged["warmup_epochs"] = int(0.3 * merged.get("epochs", default_of("epochs")))
        return cls(**merged)

    def to_dict(self) -> dict[str, Any]:
        """Plain values by name, without those of the cells where a space is searched."""
        values = {name: list(value) if isinstance(value, tuple) else value for name, value in asdict(self).items()}
        return {name: value for name, value in values.items() if not (self.of_space and name in CELL_OPTIONS)}


PCDARTS: dict[str, Any] = {"lr": 0.1, "lr_min": 0.0, "arch_lr": 6e-4, "batch_size": 256}
"""Settings of the PC-DARTS paper where they differ from those of DARTS."""


DIGITS: dict[str, Any] = {
    "channels": 8,
    "layers": 3,
    "epochs": 30,
    "batch_size": 32,
    "lr": 0.05,
    "arch_lr": 1e-2,
    "retrain_epochs": 20,
    "retrain_channels": 12,
    "retrain_layers": 4,
    "retrain_batch_size": 64,
}
"""Settings for 8x8 digits: a search and two retrainings in minutes on two cores."""


CELL_OPTIONS = ("channels", "layers", "steps", "recompute", "retrain_channels", "retrain_layers")
"""Settings of the cells of DARTS, which another space has no use for."""


_FIELDS: dict[str, Field[Any]] = {f.name: f for f in fields(SearchConfig)}


_TYPES: dict[str, Any] = get_type_hints(SearchConfig)


def default_of(name: str) -> Any:
    """Default of a field."""
    default = _FIELDS[name].default
    return None if default is MISSING else default


def field_type(name: str) -> Any:
    """Type of a field: bool, int, float, str, a tuple, or a ``Literal``. Optional ones without their None."""
    return _without_none(_TYPES[name])


def _refuse_cell_options(given: Mapping[str, Any], space: str) -> None:
    wrong = [name for name in CELL_OPTIONS if name in given]
    if wrong:
        raise ConfigError(
            f"{option_name(wrong[0])} belongs to the cells of DARTS; --space {space} has its own, see --space-set"
        )


def _convert(name: str, value: Any) -> Any:
    """See :func:`convert_value`."""
    if name not in _FIELDS:
        close = difflib.get_close_matches(name, _FIELDS, 1)
        raise ConfigError(f"unknown setting {name!r}" + (f"; did you mean {close[0]!r}?" if close else ""))
    return convert_value(name, _TYPES[name], value)


def read_settings(path: str | os.PathLike[str]) -> dict[str, Any]:
    """Settings by name from a JSON or TOML file, or from the config.json of a run. Dashes in names are underscores.

    Raises:
        ConfigError: The file cannot be read, or a name or a type in it is wrong.
    """
    content = read_content(path)
    content = content.get("search", content)
    try:
        return {name.replace("-", "_"): _convert(name.replace("-", "_"), value) for name, value in content.items()}
    except ConfigError as error:
        raise ConfigError(f"config file {path}: {error}") from error
