"""Estimates from the start of a learning curve: extrapolation, and early termination."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from nasfast.data import DataSet
from nasfast.errors import ConfigError
from nasfast.estimators.base import Estimate
from nasfast.estimators.curves import FEWEST
from nasfast.estimators.curves.ensemble import CurveEnsemble
from nasfast.estimators.curves.prediction import Prediction
from nasfast.estimators.curves.stopper import CurveStopper
from nasfast.estimators.curves.watched import CurveWatcher, Stops, never, read_curve
from nasfast.estimators.train import BACKWARD, Fidelity, TrainEstimator, TrainSettings
from nasfast.spaces.base import Rows, Space
from nasfast.utils.progress import Progress

FEWEST_EPOCHS = FEWEST + 1
"""Epochs of a training that can be stopped early: it has to be seen for three, and one must be left."""

_FIRST_EPOCH = 5  # after which a training may be stopped


class _WatchingEstimator(TrainEstimator):
    """Trains architectures with a look at the held-out images after each epoch."""

    def _watch(self, row: Rows, whole: int, most: int, stops: Stops = never) -> CurveWatcher:
        """A row's training, at its end: ``most`` epochs of a schedule of ``whole``, or fewer."""
        watcher = CurveWatcher(stops)
        self._trainer(row, whole, watcher).run(self.progress, until=most)
        return watcher

    def _cost_of(self, row: Rows, epochs: int) -> float:
        """Multiply-adds of so many epochs, with a test after each."""
        data = self.data
        flops = self.model.cost(row, data.num_classes, data.channels, data.size[0]).flops
        batch = self._settings(row).batch_size
        trained = len(data.train_labels) // batch * batch
        return float(flops * epochs * ((1 + BACKWARD) * trained + len(data.test_labels)))


class CurveEstimator(_WatchingEstimator):
    """Trains for the first epochs of a training, and extrapolates the accuracy to its end, 0 to 1.

    By :class:`CurveEnsemble`; Domhan, Springenberg, Hutter, "Speeding up automatic hyperparameter optimization of deep
    neural networks by extrapolation of learning curves", IJCAI 2015. The score is the median of what the ensemble
    expects, the uncertainty its standard deviation. Metrics: "seen", the accuracy after the last epoch that was
    trained; "epochs", how many were.

    Args:
        seen: Epochs that are trained, three at least, and fewer than the default fidelity's.
        space, dataset, folder, settings, fidelity, progress: See :class:`TrainEstimator`; the default fidelity's epochs
            are those of the whole training.

    Raises:
        ConfigError: ``seen`` is out of range.
    """

    name = "extrapolate"

    def __init__(
        self, space: Space, dataset: DataSet, folder: Path | str, seen: int,
        settings: TrainSettings | None = None, fidelity: Fidelity | None = None, progress: Progress | None = None,
    ) -> None:  # fmt: skip
        super().__init__(space, dataset, folder, settings, fidelity, progress)
        if not FEWEST <= seen < self.default_fidelity.epochs:
            raise ConfigError(f"seen must be {FEWEST} to {self.default_fidelity.epochs - 1} epochs, got {seen}")
        self.seen, self.ensemble = seen, CurveEnsemble()

    def cost(self, row: Rows, fidelity: int | None = None) -> float:
        """Multiply-adds of the epochs that are trained, with a test after each."""
        return self._cost_of(row, self.seen)

    def _label(self, row: Rows, epochs: int) -> str:
        return f"{super()._label(row, epochs)}-first{self.seen}"

    def _one(self, row: Rows, fidelity: int | None) -> Estimate:
        whole = self.epochs(row, fidelity)
        if whole <= self.seen:
            raise ConfigError(f"the first {self.seen} epochs are extrapolated to later ones, got a fidelity of {whole}")
        curve = self._watch(row, whole, self.seen).curve
        found = self.ensemble.extrapolate(np.array([curve]), float(whole))
        metrics = {"seen": curve[-1], "epochs": float(self.seen)}
        return Estimate(_middle(found), metrics, _spread(found), self.cost(row, fidelity))


class StoppingEstimator(_WatchingEstimator):
    """Trains architectures, and stops each training that will hardly beat the best one so far.

    By :class:`CurveStopper`. One that comes to its end has the score of :class:`TrainEstimator`, with the same bits.
    The score of one that is stopped is the median of what the ensemble expects at the last epoch, which can be compared
    with the others; but never above the best, which it was stopped for not beating. Its uncertainty is the ensemble's.

    What is estimated depends on what was before, in its order: see :class:`nasfast.estimators.base.StatefulEstimator`.

    Args:
        bound: Stop where the probability to beat the best is below it.
        space, dataset, folder, settings, fidelity, progress: See :class:`TrainEstimator`; four epochs at least.

    Raises:
        ConfigError: The bound or the epochs are out of range.
    """

    remember = True

    def __init__(
        self, space: Space, dataset: DataSet, folder: Path | str, bound: float,
        settings: TrainSettings | None = None, fidelity: Fidelity | None = None, progress: Progress | None = None,
    ) -> None:  # fmt: skip
        super().__init__(space, dataset, folder, settings, fidelity, progress)
        whole = self.default_fidelity.epochs
        if whole < FEWEST_EPOCHS:
            raise ConfigError(f"early termination needs trainings of at least {FEWEST_EPOCHS} epochs, got {whole}")
        self.stopper = CurveStopper(whole, bound, min(_FIRST_EPOCH, whole - 1), seed=self.settings.seed)
        self._told: list[tuple[int, ...]] = []  # rows whose trainings came to their end before a stop

    def cost(self, row: Rows, fidelity: int | None = None) -> float:
        """Multiply-adds of a training that is not stopped, with a test after each epoch."""
        return self._cost_of(row, self.epochs(row, fidelity))

    def recall(self, rows: Rows, numbers: Sequence[Mapping[str, float]]) -> None:
        """See :class:`~nasfast.estimators.base.StatefulEstimator`; curves are read from checkpoints when needed."""
        told = zip(self.space.check(rows), numbers, strict=True)
        self._told += [tuple(row.tolist()) for row, known in told if not known["stopped"]]

    def estimate(self, rows: Rows, fidelity: int | None = None) -> list[Estimate]:
        """See :class:`TrainEstimator`. Metrics: "seen", the accuracy after the last epoch that was trained, and
        "valid_loss" there; "epochs", how many were; "stopped", the epoch after which it was stopped, or 0.

        Raises:
            ConfigError: The fidelity is not the default fidelity's epochs.
            CheckpointError: That of an earlier estimate is missing or damaged.
        """
        whole = self.stopper.last_epoch
        if fidelity not in (None, whole):
            raise ConfigError(f"early termination compares trainings of {whole} epochs, got a fidelity of {fidelity}")
        for row in dict.fromkeys(self._told):
            self._observe(str(row), read_curve(self.path_of(np.array(row))))
        self._told.clear()
        return super().estimate(rows, fidelity)

    def _label(self, row: Rows, epochs: int) -> str:
        return f"{super()._label(row, epochs)}-bound{self.stopper.bound}"

    def _observe(self, trial: str, curve: Sequence[float]) -> None:
        for epoch, value in enumerate(curve, 1):
            self.stopper.observe(trial, epoch, value)

    def _one(self, row: Rows, fidelity: int | None) -> Estimate:
        whole, trial = self.epochs(row, fidelity), str(tuple(row.tolist()))

        def stops(curve: Sequence[float]) -> bool:
            self._observe(trial, curve)
            return self.stopper.should_stop(trial)

        watcher = self._watch(row, whole, whole, stops)
        self._observe(trial, watcher.curve)  # of a training that was over before
        last, epochs = watcher.curve[-1], len(watcher.curve)
        score, spread = self._expected(trial) if watcher.stopped else (last, self._sampling(last))
        metrics = {
            "valid_loss": watcher.last_loss,
            "seen": last,
            "epochs": float(epochs),
            "stopped": float(epochs) if watcher.stopped else 0.0,
        }
        return Estimate(score, metrics, spread, self._cost_of(row, epochs))

    def _expected(self, trial: str) -> tuple[float, float]:
        """Score and uncertainty of a training that was stopped, 0 to 1."""
        found, incumbent = self.stopper.predict(trial), self.stopper.incumbent
        return min(_middle(found), 1.0 if incumbent is None else incumbent), _spread(found)

    def _sampling(self, share: float) -> float:
        """Standard error of a share of the held-out images."""
        return math.sqrt(share * (1 - share) / len(self.data.test_labels))


def _middle(found: Prediction) -> float:
    """Median of one prediction, 0 to 1."""
    return min(max(float(found.median[0, 0]), 0.0), 1.0)


def _spread(found: Prediction) -> float:
    """Standard deviation of one prediction."""
    return float(found.std[0, 0])
