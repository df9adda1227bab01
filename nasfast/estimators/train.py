"""Architectures are trained, from scratch or from what they inherit, and compared on images held out of the training.

Training from scratch is the honest reference of every cheaper estimate. It is cheaper itself at a lower fidelity: fewer
epochs, a share of the images, smaller images, or a smaller model.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, fields, replace
from pathlib import Path

import torch

from nasfast.data import DataSet, shrink_images, split_indices
from nasfast.errors import ConfigError, SpaceError
from nasfast.estimators.base import Estimate
from nasfast.estimators.candidates import candidate_label
from nasfast.morphism import MorphNetwork
from nasfast.spaces.base import Rows, Space
from nasfast.spaces.joint import JointSpace
from nasfast.training.config import RetrainConfig, RetrainResult
from nasfast.training.evaluate import TrainError
from nasfast.training.space_trainer import SpaceTask
from nasfast.training.trainer import Trainer, Watcher
from nasfast.utils.progress import Progress

BACKWARD = 2
"""Multiply-adds of a backward, in those of the forward."""

DIVERGED = 1e30
"""The loss of a training that has diverged, of a row that chose its settings."""


@dataclass(frozen=True)
class Fidelity:
    """What a training costs less by.

    Attributes:
        epochs: Passes over the images.
        images: Share of the train images, above 0 and at most 1. Smaller shares are parts of larger ones.
        size: Pixels a side that images are averaged down to; None: as they are.
        model: A smaller space of the same decisions (fewer channels, fewer cells) whose networks stand in for those of
            the searched one; None: itself.
    """

    epochs: int = 20
    images: float = 1.0
    size: int | None = None
    model: Space | None = None

    def __post_init__(self) -> None:
        if self.epochs < 1 or not 0 < self.images <= 1 or (self.size is not None and self.size < 1):
            raise ConfigError(
                "fidelity: epochs and size must be at least 1, images above 0 and at most 1, got "
                f"{self.epochs}, {self.size}, {self.images}"
            )


@dataclass(frozen=True)
class TrainSettings:
    """How candidates are trained; see :class:`nasfast.training.config.RetrainConfig`.

    Attributes:
        held_out: Share of the train images that candidates are compared on; the test images are not looked at.
    """

    batch_size: int = 96
    lr: float = 0.025
    momentum: float = 0.9
    weight_decay: float = 3e-4
    grad_clip: float = 5.0
    cutout: int | None = 0
    flip: bool | None = None
    crop_pad: int | None = None
    held_out: float = 0.2
    seed: int = 0
    device: str = "cpu"

    def __post_init__(self) -> None:
        if not 0 < self.held_out < 1:
            raise ConfigError(f"held_out must be between 0 and 1, got {self.held_out}")
        self.of(1)

    def of(self, epochs: int) -> RetrainConfig:
        """The settings of a training of so many epochs."""
        names = (f.name for f in fields(self) if f.name != "held_out")
        return RetrainConfig.like(self, names, epochs=epochs).plain()


class TrainEstimator:
    """Trains every architecture from scratch. Its score is the accuracy on held-out images, 0 to 1.

    The same row gets the same bits, on the same machine with as many threads, whatever was estimated before. A training
    that was stopped goes on where it was, and one that is finished is not repeated: ``folder`` holds a checkpoint of
    each.

    Args:
        space: Of the rows. Those of a :class:`nasfast.spaces.joint.JointSpace` are trained with the settings that they
            choose.
        dataset: The train images are split into those that are trained on and those that are held out.
        folder: For the checkpoints; it is made where it is missing.
        settings: How to train, where a row does not say otherwise.
        fidelity: At which fidelity.
        progress: Where to show the training that is running; nowhere by default.

    Raises:
        ConfigError: Settings out of range.
        SpaceError: The smaller model has other decisions, or an operation does not take images of this size.
    """

    name = "train"

    def __init__(
        self,
        space: Space,
        dataset: DataSet,
        folder: Path | str,
        settings: TrainSettings | None = None,
        fidelity: Fidelity | None = None,
        progress: Progress | None = None,
    ) -> None:
        self.space, self.folder = space, Path(folder)
        self.settings, self.default_fidelity = settings or TrainSettings(), fidelity or Fidelity()
        self.model = self.default_fidelity.model or space
        self.progress = progress or Progress(quiet=True)
        same = [(d.name, d.values) for d in space.decisions] == [(d.name, d.values) for d in self.model.decisions]
        if not same:
            raise SpaceError(f"{self.model.name}: the smaller model must have the decisions of {space.name}")
        self.data = _at_fidelity(dataset, self.settings, self._most("batch_size"), self.default_fidelity)
        _check_pixels(self.data, {name: self._most(name) for name in ("cutout", "crop_pad")})

    def estimate(self, rows: Rows, fidelity: int | None = None) -> list[Estimate]:
        """See :class:`nasfast.estimators.Estimator`. None is the default fidelity.

        Metrics: "valid_loss", the cross-entropy on the held-out images; "epochs". The uncertainty is that of a share of
        so many images; the cost is :meth:`cost`.

        Raises:
            TrainError: A loss is no longer finite, and rows choose no settings; where they do, some choose too much,
                and have a score of 0.
            KeyboardInterrupt: Ctrl-C; the state of the training was saved.
        """
        self.folder.mkdir(parents=True, exist_ok=True)
        return [self._one(row, fidelity) for row in self.space.check(rows)]

    def epochs(self, row: Rows, fidelity: int | None = None) -> int:
        """Epochs that a row is trained for."""
        return fidelity or self.default_fidelity.epochs

    def cost(self, row: Rows, fidelity: int | None = None) -> float:
        """Multiply-adds that an estimate takes."""
        return self.training_cost(row, self._added_epochs(row, fidelity))

    def training_cost(self, row: Rows, epochs: int) -> float:
        """Multiply-adds of so many epochs: forward, twice as many backward; and forward once on the held-out images."""
        data = self.data
        flops = self.model.cost(row, data.num_classes, data.channels, data.size[0]).flops
        batch = self._settings(row).batch_size
        trained = epochs * (len(data.train_labels) // batch) * batch
        return float(flops * ((1 + BACKWARD) * trained + len(data.test_labels)))

    def _added_epochs(self, row: Rows, fidelity: int | None) -> int:
        """Epochs of a row's training that this estimate takes."""
        return self.epochs(row, fidelity)

    def path_of(self, row: Rows, fidelity: int | None = None) -> Path:
        """The checkpoint of a row's training, which has its weights."""
        return self._checkpoint(row, self.epochs(row, fidelity))

    def _checkpoint(self, row: Rows, epochs: int) -> Path:
        return self.folder / f"retrain-{self._label(row, epochs)}.pt"

    def _label(self, row: Rows, epochs: int) -> str:
        return candidate_label(row, epochs)

    def _start(self, row: Rows, fidelity: int | None) -> tuple[MorphNetwork | None, str]:
        """The network that a row's training starts from, and where it is from; None: from scratch."""
        return None, ""

    def _settings(self, row: Rows) -> TrainSettings:
        """How a row is trained, for however many epochs."""
        space = self.space
        return replace(self.settings, **space.training(row)) if isinstance(space, JointSpace) else self.settings

    def _most(self, name: str) -> int:
        """The largest value that a setting has in any row; 0 where the data set decides."""
        tuned = self.space.settings if isinstance(self.space, JointSpace) else {}
        return max(tuned.get(name, (getattr(self.settings, name) or 0,)))

    def _config(self, row: Rows, epochs: int, inherits: bool) -> RetrainConfig:
        """How a row is trained."""
        return self._settings(row).of(epochs)

    def _trainer(
        self, row: Rows, epochs: int, watcher: Watcher, network: MorphNetwork | None = None, origin: str = ""
    ) -> Trainer:
        """Trains a row, from scratch or from a network."""
        task = SpaceTask(self.model, row, network=network, origin=origin)
        config = self._config(row, epochs, task.inherits)
        return Trainer(task, watcher, self.data, self.folder, config, self._label(row, epochs))

    def _train(self, row: Rows, fidelity: int | None) -> RetrainResult:
        """The training of a row, at its end."""
        network, origin = self._start(row, fidelity)
        return self._trainer(row, self.epochs(row, fidelity), Watcher(), network, origin).run(self.progress)

    def _one(self, row: Rows, fidelity: int | None) -> Estimate:
        try:
            result = self._train(row, fidelity)
        except TrainError:
            if not isinstance(self.space, JointSpace):
                raise
            return self._diverged(row, fidelity)
        if isinstance(self.space, JointSpace) and not math.isfinite(result.test_loss):
            return self._diverged(row, fidelity)
        spread = math.sqrt(result.test_acc * (1 - result.test_acc) / len(self.data.test_labels))
        metrics = {"valid_loss": result.test_loss, "epochs": float(result.epochs)}
        return Estimate(result.test_acc, metrics, spread, self.cost(row, fidelity))

    def _diverged(self, row: Rows, fidelity: int | None) -> Estimate:
        """What a row gets whose own settings are no good."""
        metrics = {"valid_loss": DIVERGED, "epochs": float(self.epochs(row, fidelity))}
        return Estimate(0.0, metrics, 0.0, self.cost(row, fidelity))


def _at_fidelity(dataset: DataSet, settings: TrainSettings, batch_size: int, fidelity: Fidelity) -> DataSet:
    """The images to train on as train images, the held-out ones as test images."""
    train, held_out = split_indices(len(dataset.train_labels), 1 - settings.held_out, settings.seed)
    train = train[: max(1, int(len(train) * fidelity.images))]
    if fidelity.size is not None and fidelity.size > min(dataset.size):
        raise ConfigError(
            f"fidelity: images of {min(dataset.size)} pixels a side cannot be averaged down to {fidelity.size} pixels"
        )
    if not len(held_out) or len(train) < batch_size:
        raise ConfigError(
            f"{len(dataset.train_labels)} train images leave {len(train)} to train on and {len(held_out)} to compare "
            f"on, with batches of {batch_size}; expected a batch and an image at least"
        )
    return replace(
        dataset,
        train_images=_sized(dataset.train_images[train], fidelity.size),
        train_labels=dataset.train_labels[train],
        test_images=_sized(dataset.train_images[held_out], fidelity.size),
        test_labels=dataset.train_labels[held_out],
    )


def _check_pixels(dataset: DataSet, most: dict[str, int]) -> None:
    """Raise ConfigError where an augmentation reaches further than the images are large."""
    side = min(dataset.size)
    for name, pixels in most.items():
        if pixels > side:
            raise ConfigError(f"{name} must be at most the image's side of {side} pixels, got {pixels}")


def _sized(images: torch.Tensor, size: int | None) -> torch.Tensor:
    return images if size is None else shrink_images(images, size)
