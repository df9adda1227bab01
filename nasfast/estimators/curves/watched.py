"""A training that is tested after every epoch, and may be ended by what is seen."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from nasfast.runs.checkpoint import load_checkpoint
from nasfast.training.config import RetrainResult
from nasfast.training.evaluate import evaluate_network
from nasfast.training.trainer import Epoch, Trainer, Watcher
from nasfast.utils.numbers import percent_text

Stops = Callable[[Sequence[float]], bool]
"""Whether a training ends here, by its accuracies (0 to 1) after each epoch until now."""

_TESTS = "tests"  # in a checkpoint


def never(curve: Sequence[float]) -> bool:
    """Ends nothing."""
    return False


class CurveWatcher(Watcher):
    """Tests after each epoch; what it saw is in the checkpoint.

    Args:
        stops: Asked once after each epoch, it must give the same answer again where a training was cut.

    Attributes:
        stopped: ``stops`` has ended the training.
    """

    def __init__(self, stops: Stops = never) -> None:
        self._stops = stops
        self._tests: list[tuple[float, float]] = []

    @property
    def curve(self) -> list[float]:
        """Accuracies (0 to 1) on the test images after each epoch."""
        return [accuracy for accuracy, _ in self._tests]

    @property
    def last_loss(self) -> float:
        """Cross-entropy on the test images after the last epoch that was trained."""
        return self._tests[-1][1]

    def end_epoch(self, trainer: Trainer, epoch: Epoch) -> str:
        self._tests.append(evaluate_network(trainer.network, trainer.data))
        self.stopped = self._stops(self.curve)
        return f"held out {percent_text(self.curve[-1], 1)}"

    def finish(self, trainer: Trainer) -> RetrainResult:
        return trainer.result(*self._tests[-1])

    def state(self) -> dict[str, Any]:
        return {_TESTS: list(self._tests), "stopped": self.stopped}

    def load_state(self, state: dict[str, Any]) -> None:
        self._tests = [(accuracy, loss) for accuracy, loss in state[_TESTS]]
        self.stopped = state["stopped"]


def read_curve(path: Path) -> list[float]:
    """The curve in a checkpoint of :class:`CurveWatcher`.

    Raises:
        CheckpointError: The file is missing or damaged.
    """
    return [accuracy for accuracy, _ in load_checkpoint(path, "retrain")[_TESTS]]
