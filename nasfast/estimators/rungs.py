"""Trainings that stop at rungs, and go on from there when a search asks for the next one."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

from nasfast.data import DataSet
from nasfast.errors import ConfigError
from nasfast.estimators.candidates import RUNGS
from nasfast.estimators.train import Fidelity, TrainEstimator, TrainSettings
from nasfast.runs.checkpoint import CheckpointError
from nasfast.spaces.base import Rows, Space
from nasfast.training.config import RetrainConfig, RetrainResult
from nasfast.training.evaluate import TrainError
from nasfast.training.trainer import Trainer, Watcher
from nasfast.utils.progress import Progress


class Rungs(Watcher):
    """Keeps the result of every rung that a training has come to.

    Args:
        rungs: Epochs, rising; the last one is that of the schedule.
    """

    goes_on = True

    def __init__(self, rungs: Sequence[int]) -> None:
        self.rungs = tuple(rungs)
        self.results: dict[int, RetrainResult] = {}

    def finish(self, trainer: Trainer) -> RetrainResult:
        self.results[trainer.epoch] = super().finish(trainer)
        return self.results[trainer.epoch]

    def identity(self) -> dict[str, Any]:
        return {"rungs": list(self.rungs)}

    def state(self) -> dict[str, Any]:
        return {RUNGS: [asdict(result) for result in self.results.values()]}

    def load_state(self, state: dict[str, Any]) -> None:
        results = [RetrainResult(**result) for result in state[RUNGS]]
        self.results = {result.epochs: result for result in results}


class RungEstimator(TrainEstimator):
    """Trains architectures from scratch, and those that are asked for again at a higher fidelity from where they were.

    Li et al., "A System for Massively Parallel Hyperparameter Tuning", MLSys 2020. The learning rate follows the
    schedule of the highest fidelity from the beginning, so that a rung costs the epochs between, and the last one has
    the bits of a :class:`TrainEstimator`. The score of a rung is the accuracy on the held-out images after its last
    epoch, 0 to 1. One checkpoint of each architecture goes up the rungs and keeps the result of each.

    Args:
        rungs: Fidelities in epochs, rising; the last is the default fidelity's. Each is asked for after the one below.
        space, dataset, folder, settings, fidelity, progress: See :class:`TrainEstimator`.

    Raises:
        ConfigError: The rungs do not rise, or do not end with the default fidelity's epochs.
    """

    def __init__(
        self, space: Space, dataset: DataSet, folder: Path | str, rungs: Sequence[int],
        settings: TrainSettings | None = None, fidelity: Fidelity | None = None, progress: Progress | None = None,
    ) -> None:  # fmt: skip
        super().__init__(space, dataset, folder, settings, fidelity, progress)
        whole = self.default_fidelity.epochs
        if list(rungs) != sorted(set(rungs)) or min(rungs, default=0) < 1 or rungs[-1] != whole:
            raise ConfigError(f"rungs must be epochs that rise to the default fidelity's {whole}, got {list(rungs)}")
        self.rungs = tuple(rungs)

    def epochs(self, row: Rows, fidelity: int | None = None) -> int:
        """Epochs that a row is trained for, from the first rung on.

        Raises:
            ConfigError: The fidelity is no rung.
        """
        epochs = super().epochs(row, fidelity)
        if epochs not in self.rungs:
            raise ConfigError(f"the fidelity must be one of {', '.join(map(str, self.rungs))} epochs, got {epochs}")
        return epochs

    def _added_epochs(self, row: Rows, fidelity: int | None) -> int:
        epochs = self.epochs(row, fidelity)
        return epochs - max((rung for rung in self.rungs if rung < epochs), default=0)

    def _label(self, row: Rows, epochs: int) -> str:
        return f"{super()._label(row, self.rungs[-1])}-rungs"

    def _train(self, row: Rows, fidelity: int | None) -> RetrainResult:
        """Train what is left of a rung; at once where the training has come to it, or further.

        Raises:
            CheckpointError: The rung below is missing.
            TrainError: The training has diverged, at this rung or below.
        """
        rung, watcher = self.epochs(row, fidelity), Rungs(self.rungs)
        trainer = self._trainer(row, self.rungs[-1], watcher)
        trainer.open()
        for below in self.rungs[: self.rungs.index(rung)]:
            if below not in watcher.results:
                raise CheckpointError(
                    f"{trainer.checkpoint} has no training to {below} epochs, which the one to {rung} goes on from; "
                    "it must lie in a folder that all workers share"
                )
            _check_sound(watcher.results[below], trainer.config)
        if rung not in watcher.results:
            try:
                trainer.train(self.progress, rung)
            except TrainError:
                watcher.results[rung] = replace(trainer.result(0.0, math.inf), epochs=rung)
                trainer.save()
                raise
        _check_sound(watcher.results[rung], trainer.config)
        return watcher.results[rung]


def _check_sound(result: RetrainResult, config: RetrainConfig) -> None:
    if not math.isfinite(result.test_loss):
        raise TrainError(
            f"retrain {result.label}: the loss is not finite within {result.epochs} epochs; "
            f"lower --lr (now {config.lr}) or --grad-clip (now {config.grad_clip})"
        )
