"""Trainings that stop at rungs, and go on from there when a search asks for the next one."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from nasfast.data import DataSet
from nasfast.errors import ConfigError
from nasfast.estimators.candidates import RUNGS, CandidateTrainer
from nasfast.estimators.train import Fidelity, TrainEstimator, TrainSettings
from nasfast.runs.checkpoint import CheckpointError
from nasfast.spaces.base import Rows, Space
from nasfast.spaces.genotype_network import count_parameters
from nasfast.training.config import RetrainConfig, RetrainResult
from nasfast.training.evaluate import TrainError
from nasfast.utils.progress import Progress


class RungTrainer(CandidateTrainer):
    """Trains from rung to rung on one schedule, and tests at each; the results of all are in its one checkpoint.

    Args:
        rungs: Epochs, rising; the last one is that of the schedule.
        space, row, dataset, folder, config, label: See :class:`CandidateTrainer`; it starts from scratch.
    """

    def __init__(
        self,
        space: Space,
        row: Rows,
        dataset: DataSet,
        folder: Path,
        config: RetrainConfig,
        label: str,
        rungs: Sequence[int],
    ) -> None:
        self.rungs, self._until = tuple(rungs), rungs[-1]
        self._results: dict[int, RetrainResult] = {}
        super().__init__(space, row, dataset, folder, config, label)

    def train_to(self, epochs: int, progress: Progress) -> RetrainResult:
        """Train what is left of a rung; at once where the training has come to it, or further.

        Raises:
            CheckpointError: The rung below is missing.
            RunError: A checkpoint of this label is of another training.
            TrainError: The training has diverged, at this rung or below.
            KeyboardInterrupt: Ctrl-C; the state was saved.
        """
        if self.checkpoint.exists():
            self.resume()
        for below in self.rungs[: self.rungs.index(epochs)]:
            self._sound(self._result_of(below, epochs))
        self._until = epochs
        if epochs not in self._results:
            self._train_rung(progress)
        return self._sound(self._results[epochs])

    def _result_of(self, rung: int, later: int) -> RetrainResult:
        if rung not in self._results:
            raise CheckpointError(
                f"{self.checkpoint} has no training to {rung} epochs, which the one to {later} goes on from; it must "
                "lie in a folder that all workers share"
            )
        return self._results[rung]

    def _train_rung(self, progress: Progress) -> None:
        try:
            self.train(progress)
        except TrainError:
            self._record(0.0, math.inf)
            raise

    def _sound(self, result: RetrainResult) -> RetrainResult:
        if not math.isfinite(result.test_loss):
            raise TrainError(
                f"retrain {self.label}: the loss is not finite within {result.epochs} epochs; "
                f"lower --lr (now {self.config.lr}) or --grad-clip (now {self.config.grad_clip})"
            )
        return result

    @property
    def total_steps(self) -> int:
        return self._until * self.sampler.batches_per_epoch

    def _finish(self) -> RetrainResult:
        accuracy, loss = self._test()
        return self._record(accuracy, loss)

    def _record(self, accuracy: float, loss: float) -> RetrainResult:
        params = count_parameters(self.network)
        result = RetrainResult(self.label, accuracy, loss, params, self.stopwatch.seconds, self.inherited, self._until)
        self._results[self._until] = result
        self.save()
        return result

    def _identity(self) -> dict[str, Any]:
        return super()._identity() | {"rungs": list(self.rungs)}

    def _content(self) -> dict[str, Any]:
        return super()._content() | {RUNGS: [asdict(result) for result in self._results.values()]}

    def _take(self, state: dict[str, Any]) -> None:
        super()._take(state)
        results = [RetrainResult(**result) for result in state[RUNGS]]
        self._results = {result.epochs: result for result in results}


class RungEstimator(TrainEstimator):
    """Trains architectures from scratch, and those that are asked for again at a larger budget from where they were.

    Li et al., "A System for Massively Parallel Hyperparameter Tuning", MLSys 2020. The learning rate follows the
    schedule of the longest budget from the beginning, so that a rung costs the epochs between, and the last one has the
    bits of a :class:`TrainEstimator`. The score of a rung is the accuracy on the held-out images after its last epoch,
    in percent. One checkpoint of each architecture goes up the rungs and keeps the result of each.

    Args:
        rungs: Budgets in epochs, rising; the last is the fidelity's. Each is asked for after the one below.
        space, dataset, folder, settings, fidelity, progress: See :class:`TrainEstimator`.

    Raises:
        ConfigError: The rungs do not rise, or do not end with the fidelity's epochs.
    """

    def __init__(
        self, space: Space, dataset: DataSet, folder: Path | str, rungs: Sequence[int],
        settings: TrainSettings | None = None, fidelity: Fidelity | None = None, progress: Progress | None = None,
    ) -> None:  # fmt: skip
        super().__init__(space, dataset, folder, settings, fidelity, progress)
        whole = self.fidelity.epochs
        if list(rungs) != sorted(set(rungs)) or min(rungs, default=0) < 1 or rungs[-1] != whole:
            raise ConfigError(f"rungs must be epochs that rise to the fidelity's {whole}, got {list(rungs)}")
        self.rungs = tuple(rungs)

    def epochs(self, row: Rows, budget: int | None = None) -> int:
        """Epochs that a row is trained for, from the first rung on.

        Raises:
            ConfigError: The budget is no rung.
        """
        epochs = super().epochs(row, budget)
        if epochs not in self.rungs:
            raise ConfigError(f"the budget must be one of {', '.join(map(str, self.rungs))} epochs, got {epochs}")
        return epochs

    def _added_epochs(self, row: Rows, budget: int | None) -> int:
        epochs = self.epochs(row, budget)
        return epochs - max((rung for rung in self.rungs if rung < epochs), default=0)

    def _label(self, row: Rows, epochs: int) -> str:
        return f"{super()._label(row, self.rungs[-1])}-rungs"

    def _train(self, row: Rows, budget: int | None) -> RetrainResult:
        whole = self.rungs[-1]
        config, label = self._config(row, whole, inherits=False), self._label(row, whole)
        trainer = RungTrainer(self.model, row, self.data, self.folder, config, label, self.rungs)
        return trainer.train_to(self.epochs(row, budget), self.progress)
