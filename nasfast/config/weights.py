"""Settings of trainings: of the weights that a search learns, and of what it has found."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields

from nasfast.config.base import SHARED_PANEL, TRAIN_PANEL, WEIGHTS_PANEL, option
from nasfast.config.settings import Settings
from nasfast.training.config import RetrainConfig

_RETRAIN = "Retraining"


@dataclass(frozen=True)
class TrainingOptions(Settings):
    """Settings of every training."""

    epochs: int = option(20, "Passes over the images.", WEIGHTS_PANEL, 1)
    batch_size: int = option(64, "Images per step.", WEIGHTS_PANEL, 2)
    lr: float = option(0.025, "Learning rate of the weights in the first epoch.", WEIGHTS_PANEL, 0)


@dataclass(frozen=True)
class SgdOptions(TrainingOptions):
    """Settings of the training of a network that holds all architectures."""

    lr_min: float = option(0.0, "Learning rate that the cosine schedule falls to.", WEIGHTS_PANEL, 0)
    momentum: float = option(0.9, "Momentum of SGD.", WEIGHTS_PANEL, 0, 1)
    weight_decay: float = option(3e-4, "Weight decay of the weights.", WEIGHTS_PANEL, 0)
    grad_clip: float = option(5.0, "Largest norm of the weights' gradient.", WEIGHTS_PANEL, 1e-9)


@dataclass(frozen=True)
class HeldOutOptions(Settings):
    """Images to compare architectures on."""

    held_out: float = option(
        0.2,
        "Share of the train images that no weight learns from; architectures are compared on them.",
        TRAIN_PANEL,
        0.01,
        0.9,
    )


@dataclass(frozen=True)
class ChildOptions(HeldOutOptions):
    """How children of a shared network are compared."""

    calibration: int = option(
        256, "Train images that give each child its own BatchNorm statistics; 0: the shared ones.", SHARED_PANEL, 0
    )


@dataclass(frozen=True)
class RetrainOptions(Settings):
    """Whether what was found is trained from scratch, and how."""

    retrain: bool = option(True, "Train the derived network, and a random one beside it.", _RETRAIN)
    retrain_epochs: int = option(600, "Epochs of each retraining.", _RETRAIN, 1)
    retrain_batch_size: int = option(96, "Images per step of a retraining.", _RETRAIN, 2)

    def retrain_like(self, names: Sequence[str]) -> RetrainConfig:
        """How a run trains what it has found: by these of its settings, and by those of retrainings."""
        prefix = "retrain_"
        own = {f.name.removeprefix(prefix): getattr(self, f.name) for f in fields(self) if f.name.startswith(prefix)}
        return RetrainConfig.like(self, names, **own)
