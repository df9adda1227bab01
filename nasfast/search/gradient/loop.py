"""The search stage of a run: steps on weights and architecture by turns, a log, and checkpoints to go on from."""

from __future__ import annotations

from dataclasses import asdict
from functools import partial
from typing import Any

import torch

from nasfast.config.budget import Budget, Meter, Spent
from nasfast.config.gradient import SearchConfig
from nasfast.data import DataSet, Sampler, augment, split_indices
from nasfast.data.fingerprint import data_fingerprint
from nasfast.errors import ConfigError, DataError, NasfastError
from nasfast.runs.checkpoint import CheckpointError, save_checkpoint
from nasfast.runs.folder import RunFolder
from nasfast.search.gradient.forecast import Forecast
from nasfast.search.inputs import augmentation_of, check_space_size, limit_batches
from nasfast.spaces.base import Space
from nasfast.strategies.gradient.bilevel import BilevelSearch, BilevelStep
from nasfast.strategies.gradient.steps import Batch
from nasfast.utils.checkpointed_loop import CheckpointedLoop
from nasfast.utils.clock import Stopwatch
from nasfast.utils.memory import peak_memory
from nasfast.utils.numbers import percent_text
from nasfast.utils.progress import Progress

KIND = "search"
"""Of its checkpoints."""
# Each generator of a run has a seed of its own, this far from the run's, so that no two draw the same numbers.
_SEED_TRAIN, _SEED_VALID, _SEED_AUGMENT = 1, 2, 3


class SearchError(NasfastError):
    """A search has diverged."""


class SearchLoop:
    """The state of the search stage and the loop over its steps.

    Args:
        space: The space to search; None for the cells of DARTS.
    """

    def __init__(self, config: SearchConfig, dataset: DataSet, space: Space | None = None) -> None:
        if space is None:
            _check_size(config, dataset)
        else:
            check_space_size(space, dataset)
        self.config, self.space = config, space
        self.fingerprint = data_fingerprint(dataset)
        self.dataset = dataset.to(config.device)
        self.strategy = BilevelSearch(config, dataset.num_classes, dataset.channels, space)
        own, other = split_indices(len(dataset.train_labels), config.train_portion, config.seed)
        self.train_sampler = Sampler(own, config.batch_size, config.seed + _SEED_TRAIN, "train half")
        self.valid_sampler = Sampler(other, config.batch_size, config.seed + _SEED_VALID, "validation half")
        self.augmenter = torch.Generator(config.device).manual_seed(config.seed + _SEED_AUGMENT)
        self.augmentation = augmentation_of(config, dataset)
        # oneDNN's backward of a strided 1x1 convolution to one channel writes out of bounds where its input is a slice
        # of channels in channels_last, as plain partial channels have it.
        self.plain_partial = config.strategy == "pcdarts" and not config.fused
        self.step = 0  # of the whole search
        self.stopped: str | None = None
        self.stopwatch = Stopwatch()  # of the current epoch
        self.meter = Meter(config.threads or torch.get_num_threads(), float(config.device.startswith("cuda")))
        # Train loss and right answers, the same of validation, validation steps; on the device, so that no step waits.
        self.sums = torch.zeros(5, dtype=torch.float64, device=config.device)

    @property
    def steps_per_epoch(self) -> int:
        return self.train_sampler.batches_per_epoch

    @property
    def epoch(self) -> int:
        """Epochs that are complete."""
        return self.step // self.steps_per_epoch

    def done(self) -> bool:
        """Whether the search stage is over."""
        return self.stopped is not None or self.epoch >= self.config.epochs

    def run(self, run: RunFolder, progress: Progress, share: float = 1.0, later: float = 0.0) -> None:
        """Take the steps that are left.

        Args:
            share: Of a budget of time that may be spent on them.
            later: Seconds that what follows the search will take, for what is said of its end.
        """
        if self.done():
            return
        config, budget = self.config, Budget.parse(self.config.budget)
        limit = None
        if budget.seconds is not None:
            limit = share * budget.seconds - self.meter.spent(0).seconds
            later = min(later, (1.0 - share) * budget.seconds) if share < 1.0 else later
        forecast = Forecast(config.epochs * self.steps_per_epoch - self.step, limit, later, self.sums.tolist)
        loop = CheckpointedLoop(
            partial(self.save, run),
            self.done,
            seconds=config.checkpoint_seconds,
            steps=config.checkpoint_steps,
            taken=self.step,
        )
        with progress.stage("search", config.epochs * self.steps_per_epoch, done=self.step) as stage, loop:
            for _ in loop:
                searching = self.strategy.searches(self.epoch)
                self.take_step()
                if text := forecast.after_step(searching):
                    progress.say(text)
                note = None
                if self.step % self.steps_per_epoch == 0:
                    note, loop.due = self._end_epoch(run), True
                if budget.timed and self.stopped is None and budget.share(self.meter.spent(0)) >= share:
                    self._stop_at_budget(run, budget, share)
                stage.advance(note=note)
        if self.stopped:
            progress.say(f"stopped early after {self.epoch} epochs: {self.stopped}")

    def _batch(self, sampler: Sampler) -> Batch:
        indices = sampler.next().to(self.config.device)
        data = self.dataset
        inputs = augment(data.train_images[indices], self.augmentation, data.mean, data.std, self.augmenter)
        if self.plain_partial:
            inputs = inputs.contiguous()
        return Batch(inputs, data.train_labels[indices])

    def take_step(self) -> None:
        """One step of the architecture, where it takes any, and one of the weights."""
        self.strategy.begin_epoch(self.epoch)
        train = self._batch(self.train_sampler)
        valid = self._batch(self.valid_sampler) if self.strategy.searches(self.epoch) else None
        self._count(train, valid, self.strategy.step(train, valid))
        self.step += 1

    def _count(self, train: Batch, valid: Batch | None, taken: BilevelStep) -> None:
        parts = [taken.train.loss.double(), (taken.train.logits.argmax(1) == train.targets).sum().double()]
        if valid is not None and taken.valid is not None:
            parts += [taken.valid.loss.double(), (taken.valid.logits.argmax(1) == valid.targets).sum().double()]
            parts.append(torch.ones_like(parts[0]))
        self.sums[: len(parts)] += torch.stack(parts)

    def _stop_at_budget(self, run: RunFolder, budget: Budget, share: float) -> None:
        what = "the budget" if share == 1.0 else f"{percent_text(share, 0)} of the budget, the rest is for training,"
        self.stopped = f"{what} is spent: {budget.text(self.meter.spent(0))}"
        run.metrics.append({"kind": "guard", "epoch": self.epoch, "reason": self.stopped, "action": "stop"})

    def _end_epoch(self, run: RunFolder) -> str:
        """Log the epoch that has just ended; returns a note for the progress bar."""
        epoch = self.epoch - 1
        row = self._averages(epoch)
        seen, verdicts = self.strategy.end_epoch(epoch)
        row |= self.strategy.architecture.summary(seen)
        numbers = {f"search/{name}": value for name, value in row.items() if not isinstance(value, str)}
        run.log_scalars(self.step, numbers)
        weights = self.strategy.architecture.weights()
        run.metrics.append({"kind": "epoch", "epoch": epoch, "step": self.step, **row, **weights})
        for verdict in verdicts:
            run.metrics.append({"kind": "guard", "epoch": epoch, "reason": verdict.reason, "action": verdict.action})
            if verdict.action == "stop":
                self.stopped = self.stopped or verdict.reason
        self.sums.zero_()
        self.stopwatch.set(0.0)
        valid = "" if row["valid_acc"] is None else f", valid {percent_text(row['valid_acc'], 1)}"
        return f"epoch {epoch + 1}: train {percent_text(row['train_acc'] or 0, 1)}{valid}"

    def _averages(self, epoch: int) -> dict[str, Any]:
        """Numbers of an epoch. Validation is what the architecture's steps saw, before the weights moved."""
        train_loss, train_right, valid_loss, valid_right, valid_steps = self.sums.tolist()
        steps, batch, seconds = self.steps_per_epoch, self.config.batch_size, self.stopwatch.seconds
        if not torch.isfinite(self.sums).all():
            raise SearchError(
                f"the loss is not finite in epoch {epoch + 1}; lower --lr (now {self.config.lr}) or --grad-clip "
                f"(now {self.config.grad_clip})"
            )
        return {
            "train_loss": train_loss / steps,
            "train_acc": train_right / (steps * batch),
            "valid_loss": valid_loss / valid_steps if valid_steps else None,
            "valid_acc": valid_right / (valid_steps * batch) if valid_steps else None,
            "lr": float(self.strategy.weight_optimizer.param_groups[0]["lr"]),
            "seconds": seconds,
            "images_per_second": (steps + valid_steps) * batch / seconds,
            "peak_memory_bytes": peak_memory(self.config.device),
        }

    def save(self, run: RunFolder) -> None:
        """Write the checkpoint: everything the next step depends on, and how long the log was."""
        content = {
            "strategy": self.strategy.state(),
            "train_sampler": self.train_sampler.state(),
            "valid_sampler": self.valid_sampler.state(),
            "augmenter": self.augmenter.get_state(),
            "sums": self.sums,
            "step": self.step,
            "stopped": self.stopped,
            "seconds": self.stopwatch.seconds,
            "spent": asdict(self.meter.spent(0)),
            "metrics_position": run.metrics.position,
            "data": self.fingerprint,
        }
        save_checkpoint(run.checkpoint_path, KIND, content)

    def load(self, run: RunFolder, state: dict[str, Any]) -> None:
        """Go on from a checkpoint; rows that were logged after it go, unless the search stage was over."""
        try:
            if state["data"] != self.fingerprint:
                raise DataError(f"the images in {self.config.data} are not those that run {run.path} began with")
            self.strategy.load_state(state["strategy"])
            self.train_sampler.load_state(state["train_sampler"])
            self.valid_sampler.load_state(state["valid_sampler"])
            self.augmenter.set_state(state["augmenter"])
            self.sums.copy_(state["sums"])
            self.step, self.stopped = state["step"], state["stopped"]
            self.stopwatch.set(state["seconds"])
            self.meter.before = Spent(**state["spent"])
        except DataError:
            raise
        except (KeyError, TypeError, RuntimeError, ValueError) as error:
            raise CheckpointError(f"{run.checkpoint_path} does not fit the run's config.json") from error
        if not self.done():
            run.metrics.truncate(state["metrics_position"])


def fit_batches(config: SearchConfig, dataset: DataSet, progress: Progress) -> SearchConfig:
    """Settings whose batches, of the search and of the retraining, are no larger than what they are drawn from."""
    images = len(dataset.train_labels)
    halves = split_indices(images, config.train_portion, config.seed)
    return limit_batches(config, {"batch_size": min(map(len, halves)), "retrain_batch_size": images}, images, progress)


def _check_size(config: SearchConfig, dataset: DataSet) -> None:
    """Every reduction cell halves the image, which odd sides do not allow."""
    factor = 2 ** len({config.layers // 3, 2 * config.layers // 3})
    height, width = dataset.size
    if height % factor or width % factor:
        raise ConfigError(
            f"images of {width}x{height} pixels do not go through the reduction cells: expected multiples of {factor} "
            "(--image-size)"
        )
