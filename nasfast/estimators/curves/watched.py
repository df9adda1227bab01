"""The training of a candidate that is tested after every epoch, and may end before its schedule does."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from nasfast.data import DataSet
from nasfast.estimators.candidates import CandidateTrainer
from nasfast.runs.checkpoint import load_checkpoint
from nasfast.spaces.base import Rows, Space
from nasfast.training.config import RetrainConfig
from nasfast.training.evaluate import evaluate_network
from nasfast.utils.progress import Progress

Stops = Callable[[Sequence[float]], bool]
"""Whether a training ends here, by its accuracies (0 to 1) after each epoch until now."""

_TESTS = "tests"  # in a checkpoint


def never(curve: Sequence[float]) -> bool:
    """Ends nothing."""
    return False


class WatchedTrainer(CandidateTrainer):
    """Trains the first epochs of a schedule, and tests after each; what it saw is in its checkpoint.

    Args:
        most: Epochs that are trained at most, of the ``config.epochs`` of the schedule.
        space, row, dataset, folder, config, label: See :class:`CandidateTrainer`; it starts from scratch.

    Attributes:
        stopped: It was ended by :meth:`watch`'s ``stops``.
    """

    def __init__(
        self, space: Space, row: Rows, dataset: DataSet, folder: Path, config: RetrainConfig, label: str, most: int
    ) -> None:
        self.most, self.stopped = most, False
        self._tests: list[tuple[float, float]] = []
        self._stops: Stops = never
        super().__init__(space, row, dataset, folder, config, label)

    def watch(self, progress: Progress, stops: Stops = never) -> list[float]:
        """Train what is left of it, and return :attr:`curve`. Raises as :meth:`run_through` does.

        ``stops`` is asked once after each epoch, and must give the same answer again where a training was cut.
        """
        self._stops = stops
        self.run_through(progress)
        return self.curve

    @property
    def curve(self) -> list[float]:
        """Accuracies (0 to 1) on the test images after each epoch."""
        return [accuracy for accuracy, _ in self._tests]

    @property
    def last_loss(self) -> float:
        """Cross-entropy on the test images after the last epoch that was trained."""
        return self._tests[-1][1]

    @property
    def total_steps(self) -> int:
        return (len(self._tests) if self.stopped else self.most) * self.sampler.batches_per_epoch

    def _end_epoch(self) -> str:
        super()._end_epoch()
        self._tests.append(evaluate_network(self.network, self.data))
        self.stopped = self._stops(self.curve)
        return f"held out {100 * self.curve[-1]:.1f} %"

    def _test(self) -> tuple[float, float]:
        return self._tests[-1]

    def _content(self) -> dict[str, Any]:
        return super()._content() | {_TESTS: list(self._tests), "stopped": self.stopped}

    def _take(self, state: dict[str, Any]) -> None:
        super()._take(state)
        self._tests = [(accuracy, loss) for accuracy, loss in state[_TESTS]]
        self.stopped = state["stopped"]


def read_curve(path: Path) -> list[float]:
    """The curve in a checkpoint of :class:`WatchedTrainer`.

    Raises:
        CheckpointError: The file is missing or damaged.
    """
    return [accuracy for accuracy, _ in load_checkpoint(path, "retrain")[_TESTS]]
