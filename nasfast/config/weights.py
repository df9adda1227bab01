"""Settings of trainings: of the weights that a search learns, and of what it has found."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields
from typing import TYPE_CHECKING

from nasfast.config.base import SHARED_PANEL, TRAIN_PANEL, WEIGHTS_PANEL, option
from nasfast.config.data import DataOptions
from nasfast.config.settings import Settings
from nasfast.training.config import RetrainConfig

if TYPE_CHECKING:
    from nasfast.estimators.train import TrainSettings


@dataclass(frozen=True)
class TrainingOptions(Settings, panel=WEIGHTS_PANEL):
    """Settings of every training."""

    epochs: int = option(20, "Passes over the images.", 1)
    batch_size: int = option(64, "Images per step.", 2)
    lr: float = option(0.025, "Learning rate of the weights in the first epoch.", 0)


@dataclass(frozen=True)
class SgdOptions(TrainingOptions, panel=WEIGHTS_PANEL):
    """Settings of the training of a network that holds all architectures."""

    lr_min: float = option(0.0, "Learning rate that the cosine schedule falls to.", 0)
    momentum: float = option(0.9, "Momentum of SGD.", 0, 1)
    weight_decay: float = option(3e-4, "Weight decay of the weights.", 0)
    grad_clip: float = option(5.0, "Largest norm of the weights' gradient.", 1e-9)


@dataclass(frozen=True)
class HeldOutOptions(Settings, panel=TRAIN_PANEL):
    """Images to compare architectures on."""

    held_out: float = option(
        0.2, "Share of the train images that no weight learns from; architectures are compared on them.", 0.01, 0.9
    )


@dataclass(frozen=True)
class CandidateOptions(HeldOutOptions, TrainingOptions, DataOptions):
    """How architectures are trained one by one."""

    def training(self, seed: int | None = None) -> TrainSettings:
        """The settings of their trainings."""
        from nasfast.estimators.train import TrainSettings

        seed = self.seed if seed is None else seed
        return TrainSettings(self.batch_size, self.lr, held_out=self.held_out, seed=seed, device=self.device)


@dataclass(frozen=True)
class ChildOptions(HeldOutOptions, panel=SHARED_PANEL):
    """How children of a shared network are compared."""

    calibration: int = option(
        256, "Train images that give each child its own BatchNorm statistics; 0: the shared ones.", 0
    )


@dataclass(frozen=True)
class RetrainOptions(Settings, panel="Retraining"):
    """Whether what was found is trained from scratch, and how."""

    retrain: bool = option(True, "Train the derived network, and a random one beside it.")
    retrain_epochs: int = option(600, "Epochs of each retraining.", 1)
    retrain_batch_size: int = option(96, "Images per step of a retraining.", 2)

    def retrain_like(self, names: Sequence[str]) -> RetrainConfig:
        """How a run trains what it has found: by these of its settings, and by those of retrainings."""
        prefix = "retrain_"
        own = {f.name.removeprefix(prefix): getattr(self, f.name) for f in fields(self) if f.name.startswith(prefix)}
        return RetrainConfig.like(self, names, **own)
