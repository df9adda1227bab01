"""Training one architecture of a search space, from scratch or from weights that it has from a search."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch

from nasfast.data import DataSet
from nasfast.errors import ConfigError
from nasfast.morphism import MorphNetwork
from nasfast.runs.folder import RunFolder
from nasfast.spaces.base import Space
from nasfast.spaces.registry import SPACES
from nasfast.training.config import RetrainConfig, RetrainResult
from nasfast.training.model_file import save_model
from nasfast.training.record import RunRecord
from nasfast.training.space_network import SpaceModelInfo, WholeNetwork
from nasfast.training.trainer import Trainer
from nasfast.utils.progress import Progress


class SpaceTask:
    """Trains ``space.build(row)``. The model file holds the state dict of that, and as its metadata what builds it.

    Args:
        settings: Of the space, where it has a name; see :func:`retrain_row`.
        network: To start from; None: ``space.build(row)``, drawn from the seed.
        origin: Where that network comes from, as text; "" where it is drawn.
    """

    def __init__(
        self,
        space: Space,
        row: Any,
        settings: Mapping[str, str] | None = None,
        network: MorphNetwork | None = None,
        origin: str = "",
    ) -> None:
        self.space, self.row = space, space.check(row)[0]
        self.settings = None if settings is None or space.name not in SPACES else dict(settings)
        self._start, self._origin = network, origin

    @property
    def text(self) -> str:
        return self.space.decode(self.row)

    @property
    def inherits(self) -> bool:
        return self._start is not None

    def identity(self) -> dict[str, Any]:
        origin = {"origin": self._origin} if self.inherits else {}
        return {"space": self.space.name, "settings of the space": self.settings} | origin

    def build(self, config: RetrainConfig, data: DataSet) -> WholeNetwork:
        if self._start is not None:
            return WholeNetwork(self._start)
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(config.seed)
            return WholeNetwork(self.space.build(self.row, data.num_classes, data.channels))

    def inherit(self, network: WholeNetwork) -> int:
        return 0 if self._start is None else len(self._start.state_dict())

    def save_model(self, run: RunFolder, trainer: Trainer) -> None:
        data = trainer.data
        info = SpaceModelInfo(
            label=trainer.label,
            space=self.space.name,
            settings=self.settings,
            arch=self.text,
            in_channels=data.channels,
            size=data.size,
            mean=tuple(data.mean),
            std=tuple(data.std),
            class_names=tuple(data.class_names),
            gated=() if self._start is None else tuple(sorted(self._start.gated)),
        )
        save_model(run, info, trainer.network.network.state_dict(), data.test_images)


def retrain_row(
    space: Space,
    row: Any,
    dataset: DataSet,
    run: RunFolder,
    config: RetrainConfig,
    label: str,
    progress: Progress,
    *,
    settings: Mapping[str, str] | None,
    overwrite: bool = False,
    network: MorphNetwork | None = None,
    origin: str = "",
) -> RetrainResult:
    """Train an architecture; continue where an earlier call with the same arguments was stopped.

    Args:
        settings: With which :func:`nasfast.spaces.registry.make_space` makes the space, so that the trained network can
            be built from its file alone; None for a space of the user's own.
        overwrite: Start again, whatever an earlier training of this label left.
        network, origin: To start from, and where it comes from; see :class:`SpaceTask`.

    Raises:
        RunError: An earlier training of this label had other settings; a file cannot be read or written.
        KeyboardInterrupt: Ctrl-C; the state was saved after the step that was running.
    """
    if config.auxiliary or config.drop_path:
        raise ConfigError("an architecture of a space has neither an auxiliary head nor paths to drop")
    task = SpaceTask(space, row, settings, network, origin)
    return Trainer(task, RunRecord(run), dataset, run.path, config, label).run(progress, overwrite=overwrite)
