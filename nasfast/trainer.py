"""The loop that trains a network from scratch, in a way that can be stopped and resumed bit for bit.

One step reads: next indices, augment, forward with drop path, loss plus the auxiliary head's, clip, SGD. All that the
next step depends on (weights, optimizer, order of images, three random generators) is in ``retrain-<label>.pt``.
"""

from __future__ import annotations

import json
import math
import time
from abc import ABC, abstractmethod
from dataclasses import asdict, dataclass, fields
from typing import Any, ClassVar

import torch
import torch.nn.functional as F
from torch import nn

from nasfast.data import Augmentation, DataSet, Sampler, augment, normalize
from nasfast.derived import count_parameters
from nasfast.errors import ConfigError, NasfastError, RunError
from nasfast.interrupt import deferred_interrupt
from nasfast.layout import training_layout
from nasfast.optim import weight_optimizer
from nasfast.progress import Progress
from nasfast.run import CheckpointError, MetricsLog, RunFolder, atomic_write, load_checkpoint, save_checkpoint
from nasfast.weights import model_path

_KIND = "retrain"
_CHECKPOINT_SECONDS = 60.0
_EVAL_BATCH = 256


class TrainError(NasfastError):
    """Training has diverged."""


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


def evaluate_network(network: nn.Module, dataset: DataSet) -> tuple[float, float]:
    """Accuracy (0 to 1) and mean cross-entropy of a network on the test images; leaves its mode as it was."""
    was_training = network.training
    network.eval()
    correct, loss = 0, 0.0
    with torch.no_grad():
        for images, labels in zip(
            dataset.test_images.split(_EVAL_BATCH), dataset.test_labels.split(_EVAL_BATCH), strict=True
        ):
            logits, _ = network(normalize(images, dataset.mean, dataset.std))
            loss += float(F.cross_entropy(logits.float(), labels, reduction="sum"))
            correct += int((logits.argmax(1) == labels).sum())
    network.train(was_training)
    count = len(dataset.test_labels)
    return correct / count, loss / count


class ScratchTrainer(ABC):
    """The state of one training, and the loop over it, whatever network it is of.

    Attributes:
        saves_epochs: Write a checkpoint at every epoch's end, and not by time alone.
    """

    saves_epochs: ClassVar[bool] = True

    def __init__(self, dataset: DataSet, run: RunFolder, config: RetrainConfig, label: str, inherits: bool) -> None:
        self.run, self.config, self.label, self.inherits = run, config, label, inherits
        self.checkpoint = run.path / f"retrain-{label}.pt"
        self.data = dataset.to(config.device)
        self.augmentation = _augmentation(config, dataset)
        self.network = self._build().to(config.device)
        self.layout = training_layout(self.network, config.device)
        self.network.to(memory_format=self.layout)
        self.optimizer = weight_optimizer(self.network, config)
        self.sampler = Sampler(torch.arange(len(dataset.train_labels)), config.batch_size, config.seed, "train set")
        self.augmenter = torch.Generator(config.device).manual_seed(config.seed + 1)
        self.dropper = torch.Generator(config.device).manual_seed(config.seed + 2)
        self.network.drop_path_generator = self.dropper
        self.step = 0  # of the whole training
        self.inherited = 0
        self.seconds = 0.0
        # Loss and right answers of the current epoch; on the device, so that no step waits for them.
        self.sums = torch.zeros(2, dtype=torch.float64, device=config.device)
        self.finished: RetrainResult | None = None

    @abstractmethod
    def _build(self) -> Any:
        """The network, drawn from ``config.seed``: images to logits and those of an auxiliary head, or None.

        It has the attributes ``drop_path_prob`` and ``drop_path_generator``.
        """

    @abstractmethod
    def _text(self) -> str:
        """The architecture, as it is logged."""

    @abstractmethod
    def _save_model(self) -> None:
        """Write the trained weights beside the checkpoint."""

    def start(self) -> None:
        """Begin at step 0; rows of an earlier training of this label go."""
        self.save()
        drop_rows(self.run.metrics, self.label, 0)

    def resume(self) -> None:
        """Take up the state in the checkpoint; rows that were logged after it go."""
        state = load_checkpoint(self.checkpoint, _KIND)
        try:
            self._check_same(state)
            self._take(state)
        except (KeyError, TypeError, ValueError, RuntimeError) as error:
            if isinstance(error, NasfastError):
                raise
            raise CheckpointError(f"{self.checkpoint} is damaged: its content is not that of a training") from error
        if self.finished is None:
            drop_rows(self.run.metrics, self.label, self.epoch)

    def _take(self, state: dict[str, Any]) -> None:
        self.network.load_state_dict(state["network"])
        self.optimizer.load_state_dict(state["optimizer"])
        self.sampler.load_state(state["sampler"])
        self.augmenter.set_state(state["augmenter"])
        self.dropper.set_state(state["dropper"])
        self.sums.copy_(state["sums"])
        self.step, self.inherited, self.seconds = state["step"], state["inherited"], state["seconds"]
        if state["result"] is not None and model_path(self.run, self.label).is_file():
            self.finished = RetrainResult(**state["result"])

    def _check_same(self, state: dict[str, Any]) -> None:
        expected = self._identity()
        for name, value in expected.items():
            if state["identity"].get(name) != value:
                raise RunError(
                    f"{self.checkpoint} was made with {name} {state['identity'].get(name)}, not {value}; "
                    "use the same settings to continue it, or --force to start again"
                )

    def _identity(self) -> dict[str, Any]:
        """What must be equal for a checkpoint to be continued. The device may change."""
        settings = {f.name: getattr(self.config, f.name) for f in fields(self.config) if f.name != "device"}
        settings["inherited weights"] = self.inherits
        data = {"data": self.data.name, "train images": len(self.data.train_labels), "image size": list(self.data.size)}
        return {"genotype": self._text(), **settings, **data, "classes": list(self.data.class_names)}

    def save(self) -> None:
        """Write the checkpoint."""
        save_checkpoint(self.checkpoint, _KIND, self._content())
        self._saved_at = time.monotonic()

    def _content(self) -> dict[str, Any]:
        """What a checkpoint holds; :meth:`_take` takes it."""
        return {
            "identity": self._identity(),
            "network": self.network.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "sampler": self.sampler.state(),
            "augmenter": self.augmenter.get_state(),
            "dropper": self.dropper.get_state(),
            "sums": self.sums,
            "step": self.step,
            "inherited": self.inherited,
            "seconds": self.seconds,
            "result": asdict(self.finished) if self.finished else None,
        }

    @property
    def epoch(self) -> int:
        """Epochs that are complete."""
        return self.step // self.sampler.batches_per_epoch

    @property
    def total_steps(self) -> int:
        return self.config.epochs * self.sampler.batches_per_epoch

    def train(self, progress: Progress) -> RetrainResult:
        """Run the epochs that are left, save the network, return its result."""
        name = f"retrain {self.label}"
        with progress.stage(name, self.total_steps, done=self.step) as stage, deferred_interrupt() as interrupted:
            note = None
            self._saved_at = self._clock = time.monotonic()
            self.network.train()
            while self.step < self.total_steps:
                self._train_step()
                stop = interrupted()
                due = stop or time.monotonic() - self._saved_at > _CHECKPOINT_SECONDS
                if self.step % self.sampler.batches_per_epoch == 0:
                    note = self._end_epoch()
                    if due or self.saves_epochs:
                        self.save()
                elif due:
                    self._check_finite(self.step // self.sampler.batches_per_epoch)
                    self._tick()
                    self.save()
                stage.advance(note=note)
                if stop:
                    raise KeyboardInterrupt
        return self._finish()

    def _tick(self) -> None:
        now = time.monotonic()
        self.seconds += now - self._clock
        self._clock = now

    def _schedule(self) -> None:
        """Learning rate and drop path of the current epoch."""
        share = self.epoch / self.config.epochs
        for group in self.optimizer.param_groups:
            group["lr"] = self.config.lr * (1 + math.cos(math.pi * share)) / 2
        self.network.drop_path_prob = self.config.drop_path * share

    def _train_step(self) -> None:
        self._schedule()
        indices = self.sampler.next().to(self.config.device)
        labels = self.data.train_labels[indices]
        inputs = augment(
            self.data.train_images[indices], self.augmentation, self.data.mean, self.data.std, self.augmenter
        )
        logits, auxiliary_logits = self.network(inputs.contiguous(memory_format=self.layout))
        loss = F.cross_entropy(logits, labels)
        total = loss
        if auxiliary_logits is not None:
            total = loss + self.config.auxiliary_weight * F.cross_entropy(auxiliary_logits, labels)
        self.optimizer.zero_grad(set_to_none=True)
        total.backward()
        torch.nn.utils.clip_grad_norm_(self.network.parameters(), self.config.grad_clip, foreach=True)
        self.optimizer.step()
        with torch.no_grad():
            self.sums += torch.stack([loss.double() * len(labels), (logits.argmax(1) == labels).sum().double()])
        self.step += 1

    def _check_finite(self, epoch: int) -> None:
        if not bool(torch.isfinite(self.sums[0])):
            raise TrainError(
                f"retrain {self.label}: the loss is not finite in epoch {epoch}; "
                f"lower --lr (now {self.config.lr}) or --grad-clip (now {self.config.grad_clip})"
            )

    def _end_epoch(self) -> str:
        """Test, log the epoch's row, and return a note for the progress bar."""
        epoch, lr = self.epoch - 1, self.optimizer.param_groups[0]["lr"]
        self._check_finite(epoch)
        loss, correct = self.sums.tolist()
        count = self.sampler.batches_per_epoch * self.config.batch_size
        self.sums.zero_()
        test_acc, test_loss = evaluate_network(self.network, self.data)
        before = self.seconds
        self._tick()
        row = {
            "train_loss": loss / count,
            "train_acc": correct / count,
            "test_loss": test_loss,
            "test_acc": test_acc,
            "lr": lr,
            "seconds": self.seconds - before,
        }
        self.run.metrics.append({"kind": "retrain_epoch", "label": self.label, "epoch": epoch, **row})
        self.run.log_scalars(epoch, {f"retrain/{name}": value for name, value in row.items()}, f"retrain-{self.label}")
        return f"test {100 * test_acc:.2f} %"

    def _finish(self) -> RetrainResult:
        test_acc, test_loss = evaluate_network(self.network, self.data)
        self._tick()
        self._save_model()
        self.finished = RetrainResult(
            label=self.label,
            test_acc=test_acc,
            test_loss=test_loss,
            params=count_parameters(self.network),
            seconds=self.seconds,
            inherited=self.inherited,
            epochs=self.config.epochs,
        )
        self.run.metrics.append({"kind": "result", **asdict(self.finished), "genotype": self._text()})
        self.save()
        return self.finished


def _augmentation(config: RetrainConfig, dataset: DataSet) -> Augmentation:
    usual = dataset.augmentation
    return Augmentation(
        usual.pad if config.crop_pad is None else config.crop_pad,
        usual.flip if config.flip is None else config.flip,
        _cutout(config, dataset),
    )


def _cutout(config: RetrainConfig, dataset: DataSet) -> int:
    side = min(dataset.size)
    if config.cutout is None:
        return side // 2 if side >= 24 else side // 4
    if config.cutout > side:
        raise ConfigError(f"retrain: cutout must be at most the image's side of {side} pixels, got {config.cutout}")
    return config.cutout


def drop_rows(metrics: MetricsLog, label: str, epoch: int) -> None:
    """Remove the rows of a label's training from ``epoch`` on; other rows of the log, before and after, stay.

    A log cannot be cut at a position here: another label may have been trained between.
    """
    if not metrics.path.exists():
        return
    lines = metrics.path.read_text(encoding="utf-8").splitlines(keepends=True)
    kept = [line for line in lines if not _is_dropped(line, label, epoch)]
    if len(kept) < len(lines):
        atomic_write(metrics.path, "".join(kept))


def _is_dropped(line: str, label: str, epoch: int) -> bool:
    if not line.endswith("\n"):
        return True  # a write that was cut
    row = json.loads(line)
    if row.get("label") != label:
        return False
    return bool(row["kind"] == "result" or (row["kind"] == "retrain_epoch" and row["epoch"] >= epoch))
