"""Train a derived network from scratch or from inherited weights, and test what a run has trained."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from nasfast.data import DataSet
from nasfast.errors import ConfigError, DataError
from nasfast.kernels.primitives import PRIMITIVES
from nasfast.runs.folder import RunFolder
from nasfast.spaces.genotype import Genotype
from nasfast.spaces.genotype_network import DerivedNetwork, inherit_weights
from nasfast.training.config import RetrainConfig, RetrainResult
from nasfast.training.model_file import ModelInfo, save_model
from nasfast.training.record import RunRecord
from nasfast.training.trainer import Trainer
from nasfast.utils.progress import Progress


@dataclass(frozen=True)
class GenotypeTask:
    """Trains the network of a genotype.

    Attributes:
        weights: State of a search network to start from; None: from scratch.
        primitives: Candidates of that network's edges.
    """

    genotype: Genotype
    weights: Mapping[str, Tensor] | None = None
    primitives: Sequence[str] = PRIMITIVES

    @property
    def text(self) -> str:
        return str(self.genotype)

    @property
    def inherits(self) -> bool:
        return self.weights is not None

    def identity(self) -> dict[str, Any]:
        return {}

    def build(self, config: RetrainConfig, data: DataSet) -> DerivedNetwork:
        check_retraining(config, data)
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(config.seed)
            return DerivedNetwork(
                config.channels,
                data.num_classes,
                config.layers,
                config.auxiliary,
                self.genotype,
                in_channels=data.channels,
            )

    def inherit(self, network: DerivedNetwork) -> int:
        return 0 if self.weights is None else inherit_weights(network, self.genotype, self.weights, self.primitives)

    def save_model(self, run: RunFolder, trainer: Trainer) -> None:
        data = trainer.data
        info = ModelInfo(
            label=trainer.label,
            genotype=self.text,
            channels=trainer.config.channels,
            layers=trainer.config.layers,
            in_channels=data.channels,
            size=data.size,
            mean=tuple(data.mean),
            std=tuple(data.std),
            class_names=tuple(data.class_names),
        )
        save_model(run, info, trainer.network.state_dict(), data.test_images)


def check_retraining(config: RetrainConfig, data: DataSet) -> None:
    """Make sure that a network of cells can be trained on these images.

    Raises:
        ConfigError: They are too small or of odd sides: every reduction cell halves them, and the auxiliary head pools
            what is left to 2x2.
        DataError: There are fewer than a batch.
    """
    if config.batch_size > len(data.train_labels):
        raise DataError(
            f"retrain: batch size {config.batch_size} is larger than the train set, which holds "
            f"{len(data.train_labels)} images"
        )
    factor = 2 ** len({config.layers // 3, 2 * config.layers // 3})
    height, width = size = data.size
    if height % factor or width % factor:
        raise ConfigError(
            f"retrain: images of {height}x{width} pixels do not go through the reduction cells; "
            f"expected multiples of {factor} (--image-size)"
        )
    if config.auxiliary and min(size) < 2 * factor:
        raise ConfigError(
            f"retrain: the auxiliary head needs images of at least {2 * factor}x{2 * factor} pixels, "
            f"got {height}x{width}; train without it"
        )


def retrain(
    genotype: Genotype,
    dataset: DataSet,
    run_folder: RunFolder | str | Path,
    config: RetrainConfig,
    label: str = "derived",
    inherit_from: Mapping[str, Tensor] | None = None,
    progress: Progress | None = None,
    *,
    primitives: Sequence[str] = PRIMITIVES,
    overwrite: bool = False,
) -> RetrainResult:
    """Train the network of a genotype; continue where an earlier call with the same arguments was stopped.

    Writes ``retrain-<label>.pt`` (to resume), rows of metrics.jsonl, and at the end ``model-<label>.safetensors``.

    Args:
        label: Name of this training within the run: "derived", "random" ...
        inherit_from: State of a search network of the same channels and layers to start from.
        primitives: Candidates of that search network's edges.
        overwrite: Start again, whatever an earlier training of this label left.

    Raises:
        RunError: An earlier training of this label had other settings; a file cannot be read or written.
        ConfigError, DataError: Settings, or inherited weights, that do not fit.
        TrainError: The loss is no longer finite.
        KeyboardInterrupt: Ctrl-C; the state was saved after the step that was running.
    """
    if not label or not all(c.isalnum() or c in "-_" for c in label):
        raise ConfigError(f"retrain: a label is made of letters, digits, - and _, got {label!r}")
    opened = not isinstance(run_folder, RunFolder)
    run = RunFolder.open(run_folder) if not isinstance(run_folder, RunFolder) else run_folder
    try:
        task = GenotypeTask(genotype, inherit_from, primitives)
        trainer = Trainer(task, RunRecord(run), dataset, run.path, config, label)
        return trainer.run(progress or Progress(quiet=True), overwrite=overwrite)
    finally:
        if opened:
            run.close()
