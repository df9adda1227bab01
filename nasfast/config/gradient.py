"""Settings of a search by gradients."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

from nasfast.config.base import option, option_name, read_content
from nasfast.config.data import ImageSearchConfig
from nasfast.config.settings import Settings
from nasfast.config.space import SpaceChoice, TableOptions
from nasfast.config.weights import RetrainOptions, SgdOptions
from nasfast.errors import ConfigError
from nasfast.training.config import RetrainConfig
from nasfast.utils.suggest import did_you_mean

if TYPE_CHECKING:
    from nasfast.spaces.base import Space


@dataclass(frozen=True)
class NetOptions(Settings, panel="Search network"):
    """The network that holds all candidates."""

    strategy: Literal["darts", "pcdarts", "gdas", "snas", "drnas"] = option(
        "darts", "How to search; those from random on need --space."
    )
    channels: int = option(16, "Channels of a node in the first cell.", 1)
    layers: int = option(8, "Number of cells.", 1)
    steps: int = option(4, "Nodes of a cell.", 1)
    fused: bool = option(True, "Use the fused kernels, or the same network in plain PyTorch.")
    recompute: bool = option(False, "Repeat the forward of a cell in backward: less memory, more time.")


@dataclass(frozen=True)
class ArchOptions(Settings, panel="Architecture"):
    """How the architecture learns."""

    order: Literal["first", "second"] = option("first", "Gradient of the architecture: at the weights, or unrolled.")
    arch_lr: float = option(3e-4, "Learning rate of the architecture (Adam).", 0)
    arch_weight_decay: float = option(1e-3, "Weight decay of the architecture.", 0)
    train_portion: float = option(
        0.5, "Share of the train images for the weights; the architecture gets the rest.", 0.01, 0.99
    )
    warmup_epochs: int = option(0, "First epochs in which only the weights learn.", 0)
    temperature: float | None = option(
        None, "Of the draws in the first epoch, for gdas and snas. Default: gdas 10, snas 1.", 1e-3
    )
    temperature_end: float | None = option(None, "The same of the last epoch. Default: 0.1.", 1e-3)
    anchor: float = option(1e-3, "Weight of drnas' distance from the flat distribution.", 0)


@dataclass(frozen=True)
class GuardOptions(Settings, panel="Collapse guard"):
    """What is a collapse, and what is done on one."""

    guard: Literal["off", "log", "cap", "stop"] = option(
        "cap", "On signs of collapse: nothing, log them, cap the derived skip connections, or stop early."
    )
    max_skips: int = option(2, "Skip connections that a normal cell, or an architecture, may hold.", 0)
    min_entropy: float = option(0.0, "Entropy of the operation weights (0 to 1) that is a collapse; 0: none is.", 0, 1)
    stable_epochs: int = option(10, "Epochs with an unchanged ranking that count as settled; 0: never.", 0)
    guard_from: int = option(0, "First epoch that the guard judges.", 0)


@dataclass(frozen=True)
class SearchConfig(
    RetrainOptions, GuardOptions, ArchOptions, SgdOptions, NetOptions, TableOptions, SpaceChoice, ImageSearchConfig,
    panel="Retraining",
):  # fmt: skip
    """Settings of a search. The defaults are those of the DARTS paper on CIFAR-10; see :meth:`of`."""

    space: str = option(
        "", "Search this space, by name; without, or with darts, a normal and a reduction cell by gradients."
    )
    epochs: int = option(50, "Passes over the train half of the train images.")
    lr_min: float = 0.001
    retrain_channels: int = option(36, "Channels of a node in the first cell of the derived network.", 1)
    retrain_layers: int = option(20, "Cells of the derived network.", 1)
    training_share: float = option(
        0.5,
        "Share of a --budget of time that is kept for the retrainings, whose epochs, and batches where "
        "steps get few, are cut to what it has time for; 0: they come on top.",
        0,
        0.95,
    )

    @property
    def of_space(self) -> bool:
        """Whether an architecture of a space is searched, rather than a normal and a reduction cell."""
        return self.space not in ("", "darts")

    def searched_space(self) -> Space | None:
        """The space that is searched; None for the cells of DARTS."""
        return self.make_space() if self.of_space else None

    def retrain_config(self) -> RetrainConfig:
        """How a run with these settings trains what it has found."""
        return self.retrain_like(("seed", "device"))

    def temperatures(self) -> tuple[float | None, float | None]:
        """Of the first and the last epoch; None for the strategy's own."""
        return self.temperature, self.temperature_end

    def run_name(self) -> str:
        """What its run folder is called, where nobody says."""
        return "-".join((self.data_name, *([self.space] if self.of_space else []), self.strategy))

    @classmethod
    def fitted(cls, given: Mapping[str, Any]) -> dict[str, Any]:
        """The settings over those that suit the data set and the strategy.

        PC-DARTS gets its paper's rates, batch and warm-up (15 of 50 epochs); the digits, which are small, get a small
        network (or a small one of the space) and few epochs; a folder of images gets cells that a CPU can train where
        it is to be a CPU.
        """
        space, partial = given.get("space", ""), given.get("strategy") == "pcdarts"
        if space not in ("", "darts"):
            for name in (name for name in CELL_OPTIONS if name in given):
                raise ConfigError(
                    f"{option_name(name)} belongs to the cells of DARTS; --space {space} has its own, see --space-set"
                )
            given = super().fitted(given)
        data, of_cells = given.get("data", cls.data), space in ("", "darts")
        on_cpu = given.get("device", cls.device) == "cpu"
        small = DIGITS if data == "digits" else CPU if of_cells and on_cpu and data != "cifar10" else {}
        usual = (PCDARTS if partial else {}) | small
        fitted = {**usual, **given}
        if partial:
            fitted.setdefault("warmup_epochs", int(0.3 * fitted.get("epochs", cls.epochs)))
        return fitted

    @classmethod
    def unknown(cls, name: str, settings: Mapping[str, Any]) -> str:
        return f"unknown setting {name!r}{did_you_mean(name, cls.known(settings), quoted=True)}"

    def to_dict(self) -> dict[str, Any]:
        """Plain values by name, without those of the cells where a space is searched."""
        omitted = CELL_OPTIONS if self.of_space else ()
        return {name: value for name, value in super().to_dict().items() if name not in omitted}


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

CPU: dict[str, Any] = {
    "channels": 8,
    "layers": 5,
    "epochs": 30,
    "batch_size": 32,
    "lr": 0.05,
    "arch_lr": 3e-3,
    "retrain_epochs": 60,
    "retrain_channels": 16,
    "retrain_layers": 8,
    "retrain_batch_size": 32,
}
"""Settings for a folder of images on a CPU, where those of the paper would take days for hundreds of small images."""


CELL_OPTIONS = ("channels", "layers", "steps", "recompute", "retrain_channels", "retrain_layers")
"""Settings of the cells of DARTS, which another space has no use for."""


def read_settings(path: str | os.PathLike[str]) -> dict[str, Any]:
    """Settings by name from a JSON or TOML file, or from the config.json of a run. Dashes in names are underscores.

    Raises:
        ConfigError: The file cannot be read, or a name or a type in it is wrong.
    """
    content = read_content(path)
    content = content.get("search", content)
    if not isinstance(content, dict):
        raise ConfigError(f"config file {path}: search must hold settings by name, got {content!r}")
    try:
        return SearchConfig.typed({name.replace("-", "_"): value for name, value in content.items()})
    except ConfigError as error:
        raise ConfigError(f"config file {path}: {error}") from error
