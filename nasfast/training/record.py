"""A training as a run keeps it: a row of the log for every epoch, and the weights at the end."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict
from typing import Any

from nasfast.errors import RunError
from nasfast.runs.folder import RunFolder
from nasfast.runs.metrics import MetricsLog
from nasfast.training.config import RetrainResult
from nasfast.training.evaluate import evaluate_network
from nasfast.training.mistakes import find_mistakes, save_mistakes
from nasfast.training.model_file import model_path
from nasfast.training.trainer import Epoch, Trainer, Watcher
from nasfast.utils.numbers import percent_text
from nasfast.utils.shown import shown


class RunRecord(Watcher):
    """Tests a network after every epoch, logs that, and keeps the weights."""

    saves_epochs = True

    def __init__(self, run: RunFolder) -> None:
        self.run = run

    def begin(self, trainer: Trainer) -> None:
        """Rows that were logged after the checkpoint go, those of an earlier training of this label too.

        Raises:
            RunError: Rows of before are not there.
        """
        logged = self._check_log(trainer)
        if not logged or not model_path(self.run, trainer.label).is_file():
            trainer.finished = None
        if trainer.finished is None:
            drop_rows(self.run.metrics, trainer.label, trainer.epoch)
        self._epoch_began = trainer.stopwatch.seconds

    def _check_log(self, trainer: Trainer) -> bool:
        """Whether the log has the result too, beside the epochs that the checkpoint has."""
        with self.run.metrics.expected_rows():
            rows = [row for row in self.run.metrics.rows() if row.get("label") == trainer.label]
            epochs = {row["epoch"] for row in rows if row["kind"] == "retrain_epoch"}
        if not epochs.issuperset(range(trainer.epoch)):
            raise RunError(
                f"{self.run.metrics.path} has not the epochs of {shown(trainer.label)} that {trainer.checkpoint} has; "
                "restore it from a copy, or delete that file to train again"
            )
        return any(row["kind"] == "result" for row in rows)

    def end_epoch(self, trainer: Trainer, epoch: Epoch) -> str:
        test_acc, test_loss = evaluate_network(trainer.network, trainer.data)
        seconds = trainer.stopwatch.seconds
        row = {
            "train_loss": epoch.train_loss,
            "train_acc": epoch.train_acc,
            "test_loss": test_loss,
            "test_acc": test_acc,
            "lr": epoch.lr,
            "seconds": seconds - self._epoch_began,
        }
        self._epoch_began = seconds
        label = trainer.label
        self.run.metrics.append({"kind": "retrain_epoch", "label": label, "epoch": epoch.index, **row})
        self.run.log_scalars(epoch.index, {f"retrain/{name}": value for name, value in row.items()}, f"retrain-{label}")
        return f"test {percent_text(test_acc)}"

    def finish(self, trainer: Trainer) -> RetrainResult:
        result = super().finish(trainer)
        trainer.task.save_model(self.run, trainer)
        save_mistakes(self.run, trainer.label, find_mistakes(trainer.network, trainer.data))
        self.run.metrics.append({"kind": "result", **asdict(result), "genotype": trainer.task.text})
        return result


def drop_rows(metrics: MetricsLog, label: str, epoch: int) -> None:
    """Remove the rows of a label's training from ``epoch`` on; other rows of the log, before and after, stay.

    A log cannot be cut at a position here: another label may have been trained between.
    """
    with metrics.expected_rows():
        metrics.drop(lambda row: _is_dropped(row, label, epoch))


def _is_dropped(row: Mapping[str, Any], label: str, epoch: int) -> bool:
    if row.get("label") != label:
        return False
    return bool(row["kind"] == "result" or (row["kind"] == "retrain_epoch" and row["epoch"] >= epoch))
