"""The loop that trains a network from scratch, in a way that can be stopped and resumed bit for bit.

One step reads: next indices, augment, forward with drop path, loss plus the auxiliary head's, clip, SGD. All that the
next step depends on (weights, optimizer, order of images, three random generators) is in ``retrain-<label>.pt``.
"""

from __future__ import annotations

import json
import math
from abc import ABC, abstractmethod
from dataclasses import asdict, fields
from typing import Any, ClassVar

import torch
import torch.nn.functional as F

from nasfast.data import Augmentation, DataSet, Sampler, augment
from nasfast.errors import ConfigError, NasfastError, RunError
from nasfast.nn.memory_format import training_layout
from nasfast.runs.checkpoint import CheckpointError, load_checkpoint, save_checkpoint
from nasfast.runs.folder import RunFolder
from nasfast.runs.metrics import MetricsLog
from nasfast.spaces.genotype_network import count_parameters
from nasfast.training.config import RetrainConfig, RetrainResult
from nasfast.training.evaluate import TrainError, evaluate_network
from nasfast.training.model_file import model_path
from nasfast.training.optim import set_rate, weight_optimizer
from nasfast.utils.checkpointed_loop import CheckpointedLoop
from nasfast.utils.clock import Stopwatch
from nasfast.utils.files import atomic_write
from nasfast.utils.progress import Progress

_KIND = "retrain"
_CHECKPOINT_SECONDS = 60.0


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
        self.stopwatch, self._epoch_began = Stopwatch(), 0.0
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
        self.step, self.inherited = state["step"], state["inherited"]
        self.stopwatch.set(state["seconds"])
        self._epoch_began = state["seconds"]
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
            "seconds": self.stopwatch.seconds,
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
        name, per_epoch = f"retrain {self.label}", self.sampler.batches_per_epoch
        loop = CheckpointedLoop(self._save_sound, self._over, seconds=_CHECKPOINT_SECONDS)
        self.network.train()
        with progress.stage(name, self.total_steps, done=self.step) as stage, loop:
            for _ in loop:
                self._train_step()
                note = None
                if self.step % per_epoch == 0:
                    note, loop.due = self._end_epoch(), self.saves_epochs
                stage.advance(note=note)
        return self._finish()

    def _over(self) -> bool:
        return self.step >= self.total_steps

    def _save_sound(self) -> None:
        self._check_finite(self.epoch)
        self.save()

    def _schedule(self) -> None:
        """Learning rate and drop path of the current epoch."""
        share = self.epoch / self.config.epochs
        set_rate(self.optimizer, self.config.lr * (1 + math.cos(math.pi * share)) / 2)
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
        epoch, lr = self.epoch - 1, float(self.optimizer.param_groups[0]["lr"])
        self._check_finite(epoch)
        loss, correct = self.sums.tolist()
        count = self.sampler.batches_per_epoch * self.config.batch_size
        self.sums.zero_()
        test_acc, test_loss = evaluate_network(self.network, self.data)
        seconds = self.stopwatch.seconds
        row = {
            "train_loss": loss / count,
            "train_acc": correct / count,
            "test_loss": test_loss,
            "test_acc": test_acc,
            "lr": lr,
            "seconds": seconds - self._epoch_began,
        }
        self._epoch_began = seconds
        self.run.metrics.append({"kind": "retrain_epoch", "label": self.label, "epoch": epoch, **row})
        self.run.log_scalars(epoch, {f"retrain/{name}": value for name, value in row.items()}, f"retrain-{self.label}")
        return f"test {100 * test_acc:.2f} %"

    def _finish(self) -> RetrainResult:
        test_acc, test_loss = evaluate_network(self.network, self.data)
        self._save_model()
        self.finished = RetrainResult(
            label=self.label,
            test_acc=test_acc,
            test_loss=test_loss,
            params=count_parameters(self.network),
            seconds=self.stopwatch.seconds,
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
