"""Train a derived network from scratch or from inherited weights, and test what a run has trained."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import torch
from torch import Tensor

from nasfast.data import DataSet
from nasfast.errors import ConfigError
from nasfast.kernels.primitives import PRIMITIVES
from nasfast.runs.folder import RunFolder
from nasfast.spaces.genotype import Genotype
from nasfast.spaces.genotype_network import DerivedNetwork, inherit_weights
from nasfast.training.config import RetrainConfig, RetrainResult
from nasfast.training.model_file import ModelInfo, save_model
from nasfast.training.trainer import ScratchTrainer
from nasfast.utils.progress import Progress


class Trainer(ScratchTrainer):
    """Trains the network of a genotype."""

    network: DerivedNetwork

    def __init__(
        self, genotype: Genotype, dataset: DataSet, run: RunFolder, config: RetrainConfig, label: str, inherits: bool
    ) -> None:
        self.genotype = genotype
        super().__init__(dataset, run, config, label, inherits)

    def _build(self) -> DerivedNetwork:
        config = self.config
        _check_size(config, self.data.size)
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(config.seed)
            network = DerivedNetwork(
                config.channels,
                self.data.num_classes,
                config.layers,
                config.auxiliary,
                self.genotype,
                in_channels=self.data.channels,
            )
        return network

    def _text(self) -> str:
        return str(self.genotype)

    def _save_model(self) -> None:
        save_model(self.run, self._info(), self.network.state_dict(), self.data.test_images)

    def start_from(self, inherit_from: Mapping[str, Tensor] | None, primitives: Sequence[str]) -> None:
        """Begin at step 0, from the weights of a search network where they are given."""
        if inherit_from is not None:
            self.inherited = inherit_weights(self.network, self.genotype, inherit_from, primitives)
        self.start()

    def _info(self) -> ModelInfo:
        return ModelInfo(
            label=self.label,
            genotype=str(self.genotype),
            channels=self.config.channels,
            layers=self.config.layers,
            in_channels=self.data.channels,
            size=self.data.size,
            mean=tuple(self.data.mean),
            std=tuple(self.data.std),
            class_names=tuple(self.data.class_names),
        )


def _check_size(config: RetrainConfig, size: tuple[int, int]) -> None:
    """Every reduction cell halves the image, and the auxiliary head pools what is left to 2x2."""
    factor = 2 ** len({config.layers // 3, 2 * config.layers // 3})
    height, width = size
    if height % factor or width % factor:
        raise ConfigError(
            f"retrain: images of {height}x{width} pixels do not go through the reduction cells; "
            f"expected multiples of {factor}"
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
        trainer = Trainer(genotype, dataset, run, config, label, inherit_from is not None)
        if overwrite or not trainer.checkpoint.exists():
            trainer.start_from(inherit_from, primitives)
        else:
            trainer.resume()
        return trainer.finished or trainer.train(progress or Progress(quiet=True))
    finally:
        if opened:
            run.close()
