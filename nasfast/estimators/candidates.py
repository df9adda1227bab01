"""The training of one candidate of a search: its checkpoint, which is its weights and its result too."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from hashlib import blake2b
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from nasfast.data import DataSet
from nasfast.morphism import MorphNetwork
from nasfast.runs.checkpoint import CheckpointError, load_checkpoint
from nasfast.runs.folder import RunFolder
from nasfast.spaces.base import Rows, Space
from nasfast.spaces.genotype_network import count_parameters
from nasfast.training.config import RetrainConfig, RetrainResult
from nasfast.training.evaluate import evaluate_network
from nasfast.training.space_trainer import SpaceTrainer

_KIND, _PREFIX, _GATES = "retrain", "network.", "gates."
RUNGS = "rungs"
"""In the checkpoint of a training that goes on from rung to rung: the results so far."""


class CandidateTrainer(SpaceTrainer):
    """Trains an architecture, and tests it once, at the end; writes ``retrain-<label>.pt`` in ``folder`` alone.

    Args:
        dataset: Whose test images are those that candidates are compared on.
        network, origin: To start from; see :class:`nasfast.training.space_trainer.SpaceTrainer`.
    """

    saves_epochs = False

    def __init__(
        self,
        space: Space,
        row: Rows,
        dataset: DataSet,
        folder: Path,
        config: RetrainConfig,
        label: str,
        network: MorphNetwork | None = None,
        origin: str = "",
    ) -> None:
        super().__init__(space, row, dataset, RunFolder(folder), config, label, None, network, origin)

    def run_through(self, progress: Any) -> RetrainResult:
        """Train what is left of it; at once where it is finished.

        Raises:
            RunError: A checkpoint of this label is of another training.
            TrainError: The loss is no longer finite.
            KeyboardInterrupt: Ctrl-C; the state was saved.
        """
        if self.checkpoint.exists():
            self.resume()
        return self.finished or self.train(progress)

    def _take(self, state: dict[str, Any]) -> None:
        super()._take(state)
        if state["result"] is not None:
            self.finished = RetrainResult(**state["result"])

    def _end_epoch(self) -> str:
        self._check_finite(self.epoch - 1)
        correct = float(self.sums[1])
        self.sums.zero_()
        return f"train {100 * correct / (self.sampler.batches_per_epoch * self.config.batch_size):.1f} %"

    def _finish(self) -> RetrainResult:
        accuracy, loss = self._test()
        params = count_parameters(self.network)
        self.finished = RetrainResult(
            self.label, accuracy, loss, params, self.stopwatch.seconds, self.inherited, self.epoch
        )
        self.save()
        return self.finished

    def _test(self) -> tuple[float, float]:
        """Accuracy (0 to 1) and cross-entropy on the test images, at the end."""
        return evaluate_network(self.network, self.data)


def candidate_label(row: Rows, epochs: int) -> str:
    """Name of a row's training of so many epochs; some estimators put more behind it."""
    return blake2b(repr((row.tolist(), epochs)).encode(), digest_size=10).hexdigest()


def find_candidate(folder: Path, row: Rows, epochs: Iterable[int]) -> Path | None:
    """The checkpoint of a row's training, of the first of ``epochs`` that there is one of; None where there is none."""
    labels = (candidate_label(row, count) for count in epochs)
    return next((path for label in labels for path in sorted(folder.glob(f"retrain-{label}*.pt"))), None)


def load_candidate(space: Space, row: Rows, path: Path, num_classes: int, in_channels: int) -> MorphNetwork:
    """The network of a candidate with the weights in its checkpoint.

    Raises:
        CheckpointError: The file is missing, damaged, or of something else.
    """
    return _network_of(load_checkpoint(path, _KIND), space, row, num_classes, in_channels)


def load_trained(space: Space, row: Rows, path: Path, num_classes: int, in_channels: int) -> MorphNetwork:
    """The network of a candidate whose training was finished, or has come to a rung.

    Raises:
        CheckpointError: The file is missing, damaged, of something else, or of a training that was not finished.
    """
    if not path.is_file():
        raise CheckpointError(
            f"the weights of {space.decode(row)}, which was trained, are not at {path}; expected there, on every "
            "machine that trains what was made from it"
        )
    content = load_checkpoint(path, _KIND)
    if content["result"] is None and not content.get(RUNGS):
        raise CheckpointError(
            f"{path} is of a training of {space.decode(row)} that was not finished; expected its weights at the end"
        )
    return _network_of(content, space, row, num_classes, in_channels)


def _network_of(
    content: Mapping[str, Any], space: Space, row: Rows, num_classes: int, in_channels: int
) -> MorphNetwork:
    saved: Mapping[str, Tensor] = content["network"]
    state = {name.removeprefix(_PREFIX): value for name, value in saved.items()}
    gated = [int(name.split(".")[1]) for name in state if name.startswith(_GATES)]
    with torch.random.fork_rng(devices=[]):
        network = MorphNetwork(space, row, num_classes, in_channels, gated)
    network.load_state_dict(state)
    return network
