"""Run a search, derive the cells, retrain them beside random ones, and write the report; stop and resume at any step.

One run is one folder. ``run_search`` starts it, ``resume_search`` goes on with it: weights, architecture, optimizers,
schedule, order of images and random generators then end with the bits of a run that was never stopped (on the same
machine, with the same number of threads, which config.json keeps).
"""

from __future__ import annotations

import os
import resource
import time
import zlib
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from nasfast.config import DataOptions, SearchConfig
from nasfast.data import Augmentation, DataSet, Sampler, augment, load_data, split_indices
from nasfast.environment import check_device, describe_environment
from nasfast.errors import ConfigError, DataError, NasfastError, RunError
from nasfast.interrupt import deferred_interrupt
from nasfast.progress import Progress
from nasfast.report import build_report
from nasfast.run import CheckpointError, RunFolder, load_checkpoint, save_checkpoint
from nasfast.spaces.darts import random_genotype
from nasfast.spaces.genotype import Genotype
from nasfast.strategies.bilevel import BilevelSearch, BilevelStep
from nasfast.strategies.darts import Batch
from nasfast.train import RetrainConfig, RetrainResult, retrain

__all__ = ["SearchConfig", "SearchResult", "resume_search", "run_search"]

_KIND = "search"
# Each generator of a run has a seed of its own, this far from the run's, so that no two draw the same numbers.
_SEED_TRAIN, _SEED_VALID, _SEED_AUGMENT, _SEED_RANDOM = 1, 2, 3, 4


class SearchError(NasfastError):
    """A search has diverged."""


@dataclass
class SearchResult:
    """What a run has found.

    Attributes:
        path: The run folder.
        genotype: The derived cells.
        epochs: Epochs searched.
        stopped: Why the guard stopped the search early, else None.
        results: Retraining results by label: "derived" and "random"; empty without retraining.
        report: The report.
        was_finished: Nothing was left to do.
    """

    path: Path
    genotype: Genotype
    epochs: int
    stopped: str | None
    report: Path
    results: dict[str, RetrainResult] = field(default_factory=dict)
    was_finished: bool = False


def run_search(config: SearchConfig, out: str | os.PathLike[str], progress: Progress | None = None) -> SearchResult:
    """Search, retrain and report in a new run folder.

    Args:
        config: What to do; :meth:`SearchConfig.for_data` gives sensible defaults for a data set.
        out: The run folder, which must not exist (or be empty).
        progress: Where to show progress; nowhere by default.

    Raises:
        NasfastError: Bad data, settings or folders; see the subclasses in nasfast.errors. Nothing is written then.
        KeyboardInterrupt: Ctrl-C; a checkpoint was written, :func:`resume_search` goes on.
    """
    progress = progress or Progress(quiet=True)
    RunFolder.check_free(out)
    check_device(config.device)
    _set_threads(config)
    # The run goes on from any folder, and with the thread count that it had: other counts round differently.
    config = replace(
        config,
        threads=torch.get_num_threads(),
        data=absolute_path(config.data),
        data_root=absolute_path(config.data_root, ()),
    )
    dataset = load_run_data(config, progress)
    loop = _Loop(config, dataset)
    content = {"search": config.to_dict(), "environment": describe_environment()}
    with RunFolder.create(out, content) as run:
        loop.save(run)
        return _finish(run, loop, progress)


def resume_search(out: str | os.PathLike[str], progress: Progress | None = None) -> SearchResult:
    """Go on with a run, whatever stage it was stopped in.

    Raises:
        RunError: No run is there, it is in use, or its checkpoint cannot be read.
        DataError: The images are no longer those the run began with.
    """
    progress = progress or Progress(quiet=True)
    with RunFolder.open(out) as run:
        stored = run.read_config().get("search")
        if not isinstance(stored, dict):
            raise RunError(f"{run.config_path} holds no search settings")
        config = SearchConfig.for_data(**stored)
        done = _finished_result(run, config)
        if done is not None:
            return done
        check_device(config.device)
        _set_threads(config)
        state = None
        if run.checkpoint_path.exists() or run.metrics.position > 0:
            state = load_checkpoint(run.checkpoint_path, _KIND)
        loop = _Loop(config, load_run_data(config, progress))
        if state is not None:
            loop.load(run, state)
        else:  # killed before the first checkpoint, which is written before the first step
            loop.save(run)
        return _finish(run, loop, progress)


def absolute_path(path: str, names: tuple[str, ...] = ("digits", "cifar10")) -> str:
    return path if path in names else str(Path(path).resolve())


def _set_threads(config: SearchConfig) -> None:
    if config.threads:
        torch.set_num_threads(config.threads)


def load_run_data(config: DataOptions, progress: Progress) -> DataSet:
    """The data set of a run with these settings."""
    dataset = load_data(
        config.data,
        root=config.data_root,
        download=config.download,
        skip_bad=config.skip_bad,
        test_fraction=config.test_fraction,
        seed=config.seed,
        threads=config.threads or None,
        progress=progress,
    )
    if dataset.skipped:
        count = len(dataset.skipped)
        progress.say(f"left out {count} unreadable image{'s' * (count > 1)}, {dataset.skipped[0]} is the first")
    return dataset


def _finish(run: RunFolder, loop: _Loop, progress: Progress) -> SearchResult:
    """Everything that is left to do."""
    config = loop.config
    loop.run(run, progress)
    derived = loop.strategy.genotype()
    derived.save(run.genotype_path)
    results = {}
    if config.retrain:
        generator = torch.Generator().manual_seed(config.seed + _SEED_RANDOM)
        networks = {"derived": derived, "random": random_genotype(generator, config.steps, multiplier=config.steps)}
        for label, genotype in networks.items():
            results[label] = retrain(genotype, loop.dataset, run, retrain_config(config), label, progress=progress)
    return SearchResult(run.path, derived, loop.epoch, loop.stopped, build_report(run), results)


def retrain_config(config: SearchConfig) -> RetrainConfig:
    """How a run with these settings retrains."""
    return RetrainConfig(
        channels=config.retrain_channels,
        layers=config.retrain_layers,
        epochs=config.retrain_epochs,
        batch_size=config.retrain_batch_size,
        seed=config.seed,
        device=config.device,
    )


def inherited_weights(run: RunFolder) -> dict[str, Tensor]:
    """Weights of a run's search network, to start a retraining from."""
    weights: dict[str, Tensor] = load_checkpoint(run.checkpoint_path, _KIND)["strategy"]["network"]
    return weights


def _finished_result(run: RunFolder, config: SearchConfig) -> SearchResult | None:
    """The result of a run that has nothing left to do, from its files; None where something is left."""
    if not (run.report_path.is_file() and run.genotype_path.is_file()):
        return None
    rows = {row["label"]: row for row in run.metrics.rows() if row.get("kind") == "result"}
    if config.retrain and not {"derived", "random"} <= set(rows):
        return None
    names = RetrainResult.__dataclass_fields__
    results = {label: RetrainResult(**{name: row[name] for name in names}) for label, row in rows.items()}
    epochs = sum(row.get("kind") == "epoch" for row in run.metrics.rows())
    stopped = next((row["reason"] for row in run.metrics.rows() if row.get("action") == "stop"), None)
    genotype = Genotype.load(run.genotype_path)
    return SearchResult(run.path, genotype, epochs, stopped, run.report_path, results, was_finished=True)


class _Loop:
    """The state of the search stage and the loop over its steps."""

    def __init__(self, config: SearchConfig, dataset: DataSet) -> None:
        _check_size(config, dataset)
        self.config = config
        self.fingerprint = data_fingerprint(dataset)
        self.dataset = dataset.to(config.device)
        self.strategy = BilevelSearch(config, dataset.num_classes, dataset.channels)
        own, other = split_indices(len(dataset.train_labels), config.train_portion, config.seed)
        self.train_sampler = Sampler(own, config.batch_size, config.seed + _SEED_TRAIN, "train half")
        self.valid_sampler = Sampler(other, config.batch_size, config.seed + _SEED_VALID, "validation half")
        self.augmenter = torch.Generator(config.device).manual_seed(config.seed + _SEED_AUGMENT)
        self.augmentation = _augmentation(config, dataset)
        # oneDNN's backward of a strided 1x1 convolution to one channel writes out of bounds where its input is a slice
        # of channels in channels_last, as plain partial channels have it.
        self.plain_partial = config.strategy == "pcdarts" and not config.fused
        self.step = 0  # of the whole search
        self.stopped: str | None = None
        self.seconds = 0.0  # of the current epoch
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

    def run(self, run: RunFolder, progress: Progress) -> None:
        """Take the steps that are left."""
        if self.done():
            return
        total = self.config.epochs * self.steps_per_epoch
        self._clock = self._saved_at = time.monotonic()
        with progress.stage("search", total, done=self.step) as stage, deferred_interrupt() as interrupted:
            note = None
            while not self.done():
                self._take_step()
                stop = interrupted()
                if self.step % self.steps_per_epoch == 0:
                    note = self._end_epoch(run)
                    self.save(run)
                elif stop or self._checkpoint_is_due():
                    self._tick()
                    self.save(run)
                stage.advance(note=note)
                if stop:
                    raise KeyboardInterrupt
        if self.stopped:
            progress.say(f"stopped early after {self.epoch} epochs: {self.stopped}")

    def _batch(self, sampler: Sampler) -> Batch:
        indices = sampler.next().to(self.config.device)
        data = self.dataset
        inputs = augment(data.train_images[indices], self.augmentation, data.mean, data.std, self.augmenter)
        if self.plain_partial:
            inputs = inputs.contiguous()
        return Batch(inputs, data.train_labels[indices])

    def _take_step(self) -> None:
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

    def _tick(self) -> None:
        now = time.monotonic()
        self.seconds += now - self._clock
        self._clock = now

    def _checkpoint_is_due(self) -> bool:
        every = self.config.checkpoint_steps
        if every and self.step % every == 0:
            return True
        return time.monotonic() - self._saved_at >= self.config.checkpoint_seconds

    def _end_epoch(self, run: RunFolder) -> str:
        """Log the epoch that has just ended; returns a note for the progress bar."""
        epoch = self.epoch - 1
        self._tick()
        row = self._averages(epoch)
        seen, verdicts = self.strategy.end_epoch(epoch)
        row |= {"alpha_entropy": seen.entropy, "skip_normal": seen.skip_normal, "skip_reduce": seen.skip_reduce}
        run.log_scalars(self.step, {f"search/{name}": value for name, value in row.items()})
        run.metrics.append({"kind": "epoch", "epoch": epoch, "step": self.step, **row, **self._weights()})
        for verdict in verdicts:
            run.metrics.append({"kind": "guard", "epoch": epoch, "reason": verdict.reason, "action": verdict.action})
            if verdict.action == "stop":
                self.stopped = self.stopped or verdict.reason
        self.sums.zero_()
        self.seconds = 0.0
        valid = "" if row["valid_acc"] is None else f", valid {100 * row['valid_acc']:.1f} %"
        return f"epoch {epoch + 1}: train {100 * (row['train_acc'] or 0):.1f} %{valid}"

    def _averages(self, epoch: int) -> dict[str, float | None]:
        """Numbers of an epoch. Validation is what the architecture's steps saw, before the weights moved."""
        train_loss, train_right, valid_loss, valid_right, valid_steps = self.sums.tolist()
        steps, batch = self.steps_per_epoch, self.config.batch_size
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
            "lr": self.strategy.weight_optimizer.param_groups[0]["lr"],
            "seconds": self.seconds,
            "images_per_second": (steps + valid_steps) * batch / self.seconds,
            "peak_memory_bytes": peak_memory(self.config.device),
        }

    def _weights(self) -> dict[str, Any]:
        with torch.no_grad():
            normal, reduce = self.strategy.network.cell_weights(False), self.strategy.network.cell_weights(True)
        row = {"alphas_normal": normal[0].tolist(), "alphas_reduce": reduce[0].tolist()}
        if len(normal) > 1:
            row |= {"betas_normal": normal[1].tolist(), "betas_reduce": reduce[1].tolist()}
        return row

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
            "seconds": self.seconds,
            "metrics_position": run.metrics.position,
            "data": self.fingerprint,
        }
        save_checkpoint(run.checkpoint_path, _KIND, content)
        self._saved_at = time.monotonic()

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
            self.step, self.stopped, self.seconds = state["step"], state["stopped"], state["seconds"]
        except DataError:
            raise
        except (KeyError, TypeError, RuntimeError, ValueError) as error:
            raise CheckpointError(f"{run.checkpoint_path} does not fit the run's config.json") from error
        if not self.done():
            run.metrics.truncate(state["metrics_position"])


def _augmentation(config: SearchConfig, dataset: DataSet) -> Augmentation:
    usual = dataset.augmentation
    return Augmentation(
        usual.pad if config.crop_pad is None else config.crop_pad,
        usual.flip if config.flip is None else config.flip,
        config.cutout,
    )


def _check_size(config: SearchConfig, dataset: DataSet) -> None:
    """Every reduction cell halves the image, which odd sides do not allow."""
    factor = 2 ** len({config.layers // 3, 2 * config.layers // 3})
    height, width = dataset.size
    if height % factor or width % factor:
        raise ConfigError(
            f"images of {width}x{height} pixels do not go through the reduction cells: expected multiples of {factor}"
        )


def data_fingerprint(dataset: DataSet) -> list[int]:
    """Checksums of all images and labels."""
    tensors: list[Tensor] = [dataset.train_images, dataset.train_labels, dataset.test_images, dataset.test_labels]
    return [zlib.crc32(tensor.contiguous().numpy().data) for tensor in tensors]


def peak_memory(device: str) -> int:
    """Most bytes that this process has held: of the device's memory, or of the machine's where it is the CPU."""
    if torch.device(device).type == "cuda":
        return torch.cuda.max_memory_allocated(device)
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
