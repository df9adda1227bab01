"""The settings of a comparison of estimators."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from nasfast.config.base import SHARED_PANEL, SPACE_PANEL, TRAIN_PANEL, WEIGHTS_PANEL, option
from nasfast.config.space import SpaceChoice, TableOptions
from nasfast.config.weights import ChildOptions, TrainingOptions

if TYPE_CHECKING:
    from nasfast.estimators.train import TrainSettings

_WHAT, _TRAIN = "Comparison", "Trainings"


@dataclass(frozen=True)
class CompareConfig(ChildOptions, TrainingOptions, TableOptions, SpaceChoice):
    """What is compared, and what the reference is."""

    owner = "a comparison"
    panels: ClassVar[Mapping[str, str]] = {
        SPACE_PANEL: _WHAT,
        WEIGHTS_PANEL: _TRAIN,
        TRAIN_PANEL: _TRAIN,
        SHARED_PANEL: _TRAIN,
    }

    architectures: int = option(30, "Architectures to draw.", _WHAT, 8)
    table: str = option(help="File with a score per architecture, as one more estimator.")

    epochs: int = option(20, "Epochs of the full training, the reference.", low=5)
    lr: float = option(0.1, low=1e-9)
    held_out: float = 0.3
    oneshot_epochs: int = option(30, "Epochs of the shared network.", _TRAIN, 1)
    calibration: int = option(help="Train images that recalibrate a child of the shared network.", low=2)

    def run_name(self) -> str:
        """What its run folder is called, where nobody says."""
        return f"{self.data_name}-{self.space}-compare"

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
