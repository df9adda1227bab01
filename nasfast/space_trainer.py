"""Training one architecture of a search space from scratch."""

from __future__ import annotations

import json
from typing import Any

import torch
from safetensors.torch import save as serialize
from torch import Tensor, nn

from nasfast.data import DataSet
from nasfast.errors import ConfigError
from nasfast.progress import Progress
from nasfast.run import FORMAT, RunFolder, atomic_write
from nasfast.spaces.base import Space
from nasfast.trainer import RetrainConfig, RetrainResult, ScratchTrainer
from nasfast.weights import model_path


class _Whole(nn.Module):
    """A network as the trainer takes it: without an auxiliary head, and without paths to drop."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network
        self.drop_path_prob = 0.0
        self.drop_path_generator: torch.Generator | None = None

    def forward(self, images: Tensor) -> tuple[Tensor, None]:
        return self.network(images), None


class SpaceTrainer(ScratchTrainer):
    """Trains ``space.build(row)``; writes ``retrain-<label>.pt`` and ``model-<label>.safetensors``.

    The model file holds the state dict of ``space.build(row, classes)``, and the space's name, the architecture as
    text and the images' normalisation as its metadata.
    """

    def __init__(
        self, space: Space, row: Any, dataset: DataSet, run: RunFolder, config: RetrainConfig, label: str
    ) -> None:
        self.space, self.row = space, space.check(row)[0]
        super().__init__(dataset, run, config, label, False)

    def _build(self) -> _Whole:
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(self.config.seed)
            return _Whole(self.space.build(self.row, self.data.num_classes, self.data.channels))

    def _text(self) -> str:
        return self.space.decode(self.row)

    def _save_model(self) -> None:
        state = self.network.network.state_dict()
        tensors = {name: tensor.detach().cpu().contiguous() for name, tensor in state.items()}
        info = {
            "format": FORMAT,
            "label": self.label,
            "space": self.space.name,
            "arch": self._text(),
            "mean": self.data.mean,
            "std": self.data.std,
            "class_names": self.data.class_names,
        }
        atomic_write(model_path(self.run, self.label), serialize(tensors, metadata={"nasfast": json.dumps(info)}))


def retrain_row(
    space: Space, row: Any, dataset: DataSet, run: RunFolder, config: RetrainConfig, label: str, progress: Progress
) -> RetrainResult:
    """Train an architecture; continue where an earlier call with the same arguments was stopped.

    Raises:
        RunError: An earlier training of this label had other settings; a file cannot be read or written.
        KeyboardInterrupt: Ctrl-C; the state was saved after the step that was running.
    """
    if config.auxiliary or config.drop_path:
        raise ConfigError("an architecture of a space has neither an auxiliary head nor paths to drop")
    trainer = SpaceTrainer(space, row, dataset, run, config, label)
    if trainer.checkpoint.exists():
        trainer.resume()
    else:
        trainer.start()
    return trainer.finished or trainer.train(progress)
