"""The settings of a comparison of estimators."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import TYPE_CHECKING, Any, get_type_hints

from nasfast.config.base import check_value, convert_known, named_texts, option, space_set_for
from nasfast.config.data import DataOptions
from nasfast.spaces.registry import make_space

if TYPE_CHECKING:
    from nasfast.estimators.train import TrainSettings
    from nasfast.spaces.base import Space

_WHAT, _TRAIN = "Comparison", "Trainings"


@dataclass(frozen=True)
class CompareConfig(DataOptions):
    """What is compared, and what the reference is.

    Raises:
        ConfigError: A value is out of range; the message names the option.
    """

    space: str = option("nasbench201", "The space, by name.", _WHAT)
    space_set: tuple[str, ...] = option((), "Setting of the space, like channels=8. May be repeated.", _WHAT)
    architectures: int = option(30, "Architectures to draw.", _WHAT, 8)
    table: str = option("", "File with a score per architecture, as one more estimator.", _WHAT)
    table_data: str = option("cifar10", "Data set, where the table has several.", _WHAT)

    epochs: int = option(20, "Epochs of the full training, the reference.", _TRAIN, 5)
    batch_size: int = option(64, "Images per step.", _TRAIN, 2)
    lr: float = option(0.1, "Learning rate in the first epoch.", _TRAIN, 1e-9)
    held_out: float = option(0.3, "Share of the train images that estimates are made on.", _TRAIN, 0.01, 0.9)
    oneshot_epochs: int = option(30, "Epochs of the shared network.", _TRAIN, 1)
    calibration: int = option(256, "Train images that recalibrate a child of the shared network.", _TRAIN, 2)

    def __post_init__(self) -> None:
        for f in fields(self):
            check_value(f, _TYPES[f.name], getattr(self, f.name))

    def run_name(self) -> str:
        """What its run folder is called, where nobody says."""
        return f"{Path(self.data).resolve().name}-{self.space}-compare"

    @classmethod
    def of(cls, settings: Mapping[str, Any]) -> CompareConfig:
        """From values by name. A space that is compared on the digits is small.

        Raises:
            ConfigError: An unknown name, a value of another type or out of range.
        """
        given = convert_known(settings, _TYPES, "a comparison")
        chosen = space_set_for(
            given.get("data", "digits"), given.get("space", "nasbench201"), given.get("space_set", ())
        )
        return cls(**given | {"space_set": chosen})

    def to_dict(self) -> dict[str, Any]:
        """Plain values by name."""
        return {name: list(value) if isinstance(value, tuple) else value for name, value in asdict(self).items()}

    def make_space(self) -> Space:
        """The space with its settings."""
        return make_space(self.space, self.space_settings())

    def space_settings(self) -> dict[str, str]:
        """Settings of the space, as text by name."""
        return named_texts("--space-set", self.space_set)

    def training(self, seed: int | None = None) -> TrainSettings:
        """How candidates are trained."""
        from nasfast.estimators.train import TrainSettings

        return TrainSettings(
            batch_size=self.batch_size,
            lr=self.lr,
            held_out=self.held_out,
            seed=self.seed if seed is None else seed,
            device=self.device,
        )


_TYPES: dict[str, Any] = get_type_hints(CompareConfig)
