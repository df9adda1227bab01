"""How a network is trained from scratch, and what comes of it."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import Any

from nasfast.errors import ConfigError
from nasfast.utils.seeds import check_seed


@dataclass(frozen=True)
class RetrainConfig:
    """How a derived network is trained. The defaults are those of the DARTS paper on CIFAR-10.

    Attributes:
        channels: Channels of a node in the first cell.
        layers: Number of cells.
        lr: Learning rate of the first epoch; it falls to 0 along a half cosine, epoch by epoch.
        grad_clip: Largest norm of the gradient.
        drop_path: Drop path probability at the end; it rises linearly from 0.
        auxiliary: Train with the auxiliary head, whose loss counts ``auxiliary_weight`` times.
        cutout: Side of the blanked square in pixels; 0 for none; None for half of the image's side, and a quarter for
            images below 24 pixels, which have little to spare.
        flip: Mirror half of the train images; None: as the data set.
        crop_pad: Shift train images by up to so many pixels; None: as the data set.
        device: Where to train, as torch names it.
    """

    channels: int = 36
    layers: int = 20
    epochs: int = 600
    batch_size: int = 96
    lr: float = 0.025
    momentum: float = 0.9
    weight_decay: float = 3e-4
    grad_clip: float = 5.0
    drop_path: float = 0.2
    auxiliary: bool = True
    auxiliary_weight: float = 0.4
    cutout: int | None = None
    flip: bool | None = None
    crop_pad: int | None = None
    seed: int = 0
    device: str = "cpu"

    def __post_init__(self) -> None:
        check_seed("retrain: seed", self.seed, ConfigError)
        for name in ("channels", "layers", "epochs", "batch_size"):
            if getattr(self, name) < 1:
                raise ConfigError(f"retrain: {name} must be at least 1, got {getattr(self, name)}")
        for name in ("lr", "grad_clip"):
            if not getattr(self, name) > 0:
                raise ConfigError(f"retrain: {name} must be above 0, got {getattr(self, name)}")
        for name in ("weight_decay", "auxiliary_weight", "cutout", "crop_pad"):
            if (getattr(self, name) or 0) < 0:
                raise ConfigError(f"retrain: {name} must not be negative, got {getattr(self, name)}")
        for name in ("drop_path", "momentum"):
            if not 0 <= getattr(self, name) < 1:
                raise ConfigError(f"retrain: {name} must be in [0, 1), got {getattr(self, name)}")

    @classmethod
    def like(cls, settings: Any, names: Iterable[str], **own: Any) -> RetrainConfig:
        """What ``settings`` have under these ``names``, and ``own`` beside it."""
        return cls(**{name: getattr(settings, name) for name in names}, **own)

    def steps(self, images: int) -> int:
        """Steps of the whole training on so many images."""
        return self.epochs * (images // self.batch_size)

    def plain(self) -> RetrainConfig:
        """The same for a network that is not made of cells: it has no auxiliary head, and drops no path."""
        return replace(self, drop_path=0.0, auxiliary=False)


@dataclass(frozen=True)
class RetrainResult:
    """Of the network after its last epoch (no epoch is picked by its test accuracy).

    Attributes:
        test_acc: Share of the test images that are classified right, 0 to 1.
        params: Trainable parameters without the auxiliary head.
        seconds: Time spent in training and testing, over all resumed parts.
        inherited: Tensors that came from the search network, 0 where trained from scratch.
    """

    label: str
    test_acc: float
    test_loss: float
    params: int
    seconds: float
    inherited: int
    epochs: int
