"""The loop that trains a network, in a way that can be stopped and resumed bit for bit.

One step reads: next indices, augment, forward with drop path, loss plus the auxiliary head's, clip, SGD. All that the
next step depends on (weights, optimizer, order of images, three random generators) is in ``retrain-<label>.pt``.
"""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any, ClassVar, Protocol

import torch
import torch.nn.functional as F

from nasfast.data import Augmentation, DataSet, Sampler, augment
from nasfast.errors import ConfigError, NasfastError, RunError
from nasfast.nn.memory_format import training_layout
from nasfast.runs.checkpoint import CheckpointError, load_checkpoint, save_checkpoint
from nasfast.runs.folder import RunFolder
from nasfast.spaces.genotype_network import count_parameters
from nasfast.training.config import RetrainConfig, RetrainResult
from nasfast.training.evaluate import TrainError, evaluate_network
from nasfast.training.optim import set_rate, weight_optimizer
from nasfast.utils.checkpointed_loop import CheckpointedLoop
from nasfast.utils.clock import Stopwatch
from nasfast.utils.numbers import percent_text
from nasfast.utils.progress import Progress

_KIND = "retrain"
_CHECKPOINT_SECONDS = 60.0


class Task(Protocol):
    """What is trained."""

    @property
    def text(self) -> str:
        """The architecture, as it is logged."""

    @property
    def inherits(self) -> bool:
        """Whether the weights it starts with come from elsewhere."""

    def identity(self) -> dict[str, Any]:
        """What must be equal for a checkpoint to be continued, beside the text and the settings."""

    def build(self, config: RetrainConfig, data: DataSet) -> Any:
        """The network, drawn from ``config.seed``: images to logits and those of an auxiliary head, or None.

        It has the attributes ``drop_path_prob`` and ``drop_path_generator``.
        """

    def inherit(self, network: Any) -> int:
        """Give the network, as it was built, the weights it starts with; returns how many tensors those are."""

    def save_model(self, run: RunFolder, trainer: Trainer) -> None:
        """Write the trained weights into a run."""


@dataclass(frozen=True)
class Epoch:
    """Numbers of an epoch that was trained, the first one is 0."""

    index: int
    train_loss: float
    train_acc: float
    lr: float


class Watcher:
    """What a trainer calls back; as it is, it tests the network once, at the end.

    Attributes:
        saves_epochs: A checkpoint is written at the start and at every epoch's end, and not by time alone.
        goes_on: What came of it is not all: more epochs may be trained later.
        stopped: The training ends here, before its time.
    """

    saves_epochs: ClassVar[bool] = False
    goes_on: ClassVar[bool] = False
    stopped: bool = False

    def begin(self, trainer: Trainer) -> None:
        """It starts, or has just gone on from its checkpoint."""

    def end_epoch(self, trainer: Trainer, epoch: Epoch) -> str:
        """An epoch was trained; returns a note for the progress bar."""
        return f"train {percent_text(epoch.train_acc, 1)}"

    def finish(self, trainer: Trainer) -> RetrainResult:
        """All epochs were; returns what came of it, which is saved after this."""
        return trainer.result(*evaluate_network(trainer.network, trainer.data))

    def identity(self) -> dict[str, Any]:
        """What must be equal for a checkpoint to be continued."""
        return {}

    def state(self) -> dict[str, Any]:
        """What it adds to a checkpoint."""
        return {}

    def load_state(self, state: dict[str, Any]) -> None:
        """Take that from a checkpoint."""


class Trainer:
    """The state of one training, and the loop over it.

    Args:
        task: What is trained.
        watcher: Who looks on, and keeps what comes of it.
        dataset: With the images to test on.
        folder: Of the checkpoint.
        label: Name of the training among those in the folder.

    Attributes:
        finished: What came of it, once it is over.
    """

    def __init__(
        self, task: Task, watcher: Watcher, dataset: DataSet, folder: Path, config: RetrainConfig, label: str
    ) -> None:
        self.task, self.watcher, self.config, self.label = task, watcher, config, label
        self.checkpoint = folder / f"retrain-{label}.pt"
        self.data = dataset.to(config.device)
        self.augmentation = _augmentation(config, dataset)
        self.network = task.build(config, self.data).to(config.device)
        self.layout = training_layout(self.network, config.device)
        self.network.to(memory_format=self.layout)
        self.optimizer = weight_optimizer(self.network, config)
        self.sampler = Sampler(torch.arange(len(dataset.train_labels)), config.batch_size, config.seed, "train set")
        self.augmenter = torch.Generator(config.device).manual_seed(config.seed + 1)
        self.dropper = torch.Generator(config.device).manual_seed(config.seed + 2)
        self.network.drop_path_generator = self.dropper
        self.step = 0  # of the whole training
        self.inherited = 0
        self.stopwatch = Stopwatch()
        # Loss and right answers of the current epoch; on the device, so that no step waits for them.
        self.sums = torch.zeros(2, dtype=torch.float64, device=config.device)
        self.finished: RetrainResult | None = None

    def run(self, progress: Progress, *, overwrite: bool = False, until: int | None = None) -> RetrainResult:
        """Train what is left of it; at once where it is finished.

        Args:
            overwrite: Start again, whatever checkpoint there is.
            until: Epochs to train, of those of the schedule; None: all.

        Raises:
            RunError: A checkpoint of this label is of another training, or cannot be read or written.
            TrainError: The loss is no longer finite.
            KeyboardInterrupt: Ctrl-C; the state was saved.
        """
        self.open(overwrite)
        return self.finished or self.train(progress, until)

    def open(self, overwrite: bool = False) -> None:
        """Take up the state in the checkpoint, where there is one to go on from; else begin at step 0."""
        if self.checkpoint.exists() and not overwrite:
            self._resume()
        else:
            self.inherited = self.task.inherit(self.network)
            if self.watcher.saves_epochs:
                self.save()
        self.watcher.begin(self)

    def _resume(self) -> None:
        state = load_checkpoint(self.checkpoint, _KIND)
        try:
            self._check_same(state)
            self._take(state)
        except (KeyError, TypeError, ValueError, RuntimeError) as error:
            if isinstance(error, NasfastError):
                raise
            raise CheckpointError(f"{self.checkpoint} is damaged: its content is not that of a training") from error

    def _take(self, state: dict[str, Any]) -> None:
        self.network.load_state_dict(state["network"])
        self.optimizer.load_state_dict(state["optimizer"])
        self.sampler.load_state(state["sampler"])
        self.augmenter.set_state(state["augmenter"])
        self.dropper.set_state(state["dropper"])
        self.sums.copy_(state["sums"])
        self.step, self.inherited = state["step"], state["inherited"]
        self.stopwatch.set(state["seconds"])
        if state["result"] is not None:
            self.finished = RetrainResult(**state["result"])
        self.watcher.load_state(state)

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
        settings["inherited weights"] = self.task.inherits
        data = {"data": self.data.name, "train images": len(self.data.train_labels), "image size": list(self.data.size)}
        own = {"genotype": self.task.text, **settings, **data, "classes": list(self.data.class_names)}
        return own | self.task.identity() | self.watcher.identity()

    def save(self) -> None:
        """Write the checkpoint, which :meth:`open` takes up."""
        content = {
            "identity": self._identity(),
            "network": self.network.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "sampler": self.sampler.state(),
            "augmenter": self.augmenter.get_state(),
            "dropper": self.dropper.get_state(),
            "sums": self.sums,
            "step": self.step,
            "inherited": self.inherited,
            "seconds": self.stopwatch.seconds,
            "result": asdict(self.finished) if self.finished else None,
        }
        save_checkpoint(self.checkpoint, _KIND, content | self.watcher.state())

    @property
    def epoch(self) -> int:
        """Epochs that are complete."""
        return self.step // self.sampler.batches_per_epoch

    def train(self, progress: Progress, until: int | None = None) -> RetrainResult:
        """Train the epochs that are left, of so many, and save what came of it. See :meth:`run`."""
        per_epoch = self.sampler.batches_per_epoch
        total = (until or self.config.epochs) * per_epoch
        loop = CheckpointedLoop(
            self._save_sound, lambda: self.watcher.stopped or self.step >= total, seconds=_CHECKPOINT_SECONDS
        )
        self.network.train()
        with progress.stage(f"retrain {self.label}", total, done=self.step) as stage, loop:
            for _ in loop:
                self.take_step()
                note = None
                if self.step % per_epoch == 0:
                    note, loop.due = self.watcher.end_epoch(self, self._end_epoch()), self.watcher.saves_epochs
                stage.advance(note=note)
        result = self.watcher.finish(self)
        if not self.watcher.goes_on:
            self.finished = result
        self.save()
        return result

    def result(self, test_acc: float, test_loss: float) -> RetrainResult:
        """What came of the epochs until now."""
        params, seconds = count_parameters(self.network), self.stopwatch.seconds
        return RetrainResult(self.label, test_acc, test_loss, params, seconds, self.inherited, self.epoch)

    def _save_sound(self) -> None:
        self._check_finite(self.epoch)
        self.save()

    def _schedule(self) -> None:
        """Learning rate and drop path of the current epoch."""
        share = self.epoch / self.config.epochs
        set_rate(self.optimizer, self.config.lr * (1 + math.cos(math.pi * share)) / 2)
        self.network.drop_path_prob = self.config.drop_path * share

    def take_step(self) -> None:
        """One step of the weights."""
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

    def _end_epoch(self) -> Epoch:
        """Numbers of the epoch that has just ended; starts the next."""
        self._check_finite(self.epoch - 1)
        loss, correct = self.sums.tolist()
        count = self.sampler.batches_per_epoch * self.config.batch_size
        self.sums.zero_()
        return Epoch(self.epoch - 1, loss / count, correct / count, float(self.optimizer.param_groups[0]["lr"]))


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
