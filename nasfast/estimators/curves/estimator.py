"""Estimates from the start of a learning curve."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from nasfast.data import DataSet
from nasfast.errors import ConfigError
from nasfast.estimators.base import Estimate
from nasfast.estimators.candidates import CandidateTrainer
from nasfast.estimators.curves.ensemble import CurveEnsemble
from nasfast.estimators.train import BACKWARD, Fidelity, TrainEstimator, TrainSettings
from nasfast.progress import Progress
from nasfast.spaces.base import Rows, Space
from nasfast.trainer import evaluate_network

_FEWEST = 3


class _Beginning(CandidateTrainer):
    """The first ``seen`` epochs of a training, under the schedule of the whole, tested after each."""

    seen = 0

    def observe(self, seen: int, progress: Progress) -> list[float]:
        """Accuracies (0 to 1) on the test images after each epoch."""
        self.seen, self.curve = seen, list[float]()
        self.start()
        self.train(progress)
        return self.curve

    @property
    def total_steps(self) -> int:
        return self.seen * self.sampler.batches_per_epoch

    def _end_epoch(self) -> str:
        note = super()._end_epoch()
        self.curve.append(evaluate_network(self.network, self.data)[0])
        return note


class CurveEstimator(TrainEstimator):
    """Trains for the first epochs of a training, and extrapolates the accuracy to its end, in percent.

    By :class:`CurveEnsemble`; Domhan, Springenberg, Hutter, "Speeding up automatic hyperparameter optimization of deep
    neural networks by extrapolation of learning curves", IJCAI 2015. A training that was stopped starts again.

    Args:
        seen: Epochs that are trained, three at least, and fewer than the fidelity's.
        space, dataset, folder, settings, fidelity, progress: See :class:`TrainEstimator`; the fidelity's epochs are
            those of the whole training.

    Raises:
        ConfigError: ``seen`` is out of range.
    """

    name = "learning-curve"

    def __init__(
        self, space: Space, dataset: DataSet, folder: Path | str, seen: int,
        settings: TrainSettings | None = None, fidelity: Fidelity | None = None, progress: Progress | None = None,
    ) -> None:  # fmt: skip
        super().__init__(space, dataset, folder, settings, fidelity, progress)
        if not _FEWEST <= seen < self.fidelity.epochs:
            raise ConfigError(f"seen must be {_FEWEST} to {self.fidelity.epochs - 1} epochs, got {seen}")
        self.seen, self.ensemble = seen, CurveEnsemble()

    def cost(self, row: Rows, budget: int | None = None) -> float:
        """Multiply-adds of the epochs that are trained, with a test after each."""
        data = self.data
        flops = self.model.cost(row, data.num_classes, data.channels, data.size[0]).flops
        batch = self._settings(row).batch_size
        trained = len(data.train_labels) // batch * batch
        return float(flops * self.seen * ((1 + BACKWARD) * trained + len(data.test_labels)))

    def _one(self, row: Rows, budget: int | None) -> Estimate:
        whole = self.epochs(row, budget)
        config = self._config(row, whole, inherits=False)
        trainer = _Beginning(self.model, row, self.data, self.folder, config, self._label(row, whole))
        curve = np.array([trainer.observe(self.seen, self.progress)])
        found = self.ensemble.extrapolate(curve, float(whole))
        mean, spread = float(found.mean.ravel()[0]), float(found.std.ravel()[0])
        return Estimate(100 * mean, {"seen": 100 * float(curve[0, -1])}, 100 * spread, self.cost(row, budget))
