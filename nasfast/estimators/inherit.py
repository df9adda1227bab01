"""Architectures are trained from the weights of the one that they were made from."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

from nasfast.data import DataSet
from nasfast.errors import ConfigError
from nasfast.estimators.candidates import load_candidate
from nasfast.estimators.train import Fidelity, TrainEstimator, TrainSettings
from nasfast.morphism import MorphNetwork, from_shared, morph
from nasfast.progress import Progress
from nasfast.spaces.base import Rows, Space
from nasfast.supernet.shared import SharedNetwork
from nasfast.trainer import RetrainConfig

Lineage = Callable[[tuple[int, ...]], tuple[int, ...] | None]
"""The row that a row was made from; None for one that was not."""


class InheritEstimator(TrainEstimator):
    """Trains a child for a few epochs from its parent's weights, by :func:`nasfast.morphism.morph`.

    Elsken, Metzen, Hutter, "Simple and Efficient Architecture Search for Convolutional Neural Networks", 2017. The
    learning rate starts again for every child, at ``inherited_lr``, and falls to 0 along half a cosine.

    Args:
        lineage: Says what a row was made from. Weights come from the nearest ancestor that was estimated.
        inherited_lr: Learning rate in the first epoch of what inherits: low enough not to undo what was learned. None:
            that of the settings.
        first_epochs: Of architectures that have no parent. Others: the fidelity's.
        supernet: A trained shared network of the space, whose weights architectures without a parent start from, for
            the fidelity's epochs; None: they start from scratch.
        space, dataset, folder, settings, fidelity, progress: See :class:`TrainEstimator`.

    Raises:
        ConfigError: ``first_epochs`` is below 1, or the shared network does not go with the space or the images.
    """

    name = "inherit"

    def __init__(
        self,
        space: Space,
        dataset: DataSet,
        folder: Path | str,
        lineage: Lineage,
        settings: TrainSettings | None = None,
        fidelity: Fidelity | None = None,
        first_epochs: int = 20,
        supernet: SharedNetwork | None = None,
        inherited_lr: float | None = None,
        progress: Progress | None = None,
    ) -> None:
        super().__init__(space, dataset, folder, settings, fidelity, progress)
        if first_epochs < 1:
            raise ConfigError(f"first_epochs must be at least 1, got {first_epochs}")
        if supernet is not None:
            expected = (self.model.name, self.data.num_classes, self.data.channels)
            found = (supernet.space.name, supernet.num_classes, supernet.in_channels)
            if found != expected:
                raise ConfigError(f"the shared network must be of {expected} (space, classes, channels), got {found}")
        self.lineage, self.first_epochs, self.supernet, self.inherited_lr = (
            lineage,
            first_epochs,
            supernet,
            inherited_lr,
        )
        if inherited_lr is not None:
            replace(self.settings, lr=inherited_lr)

    def epochs(self, row: Rows, budget: int | None = None) -> int:
        """Epochs that a row is trained for: fewer where it inherits."""
        return self._epochs(self._ancestor(row, budget) is not None, budget)

    def _epochs(self, descends: bool, budget: int | None) -> int:
        scratch = self.supernet is None and not descends
        return self.first_epochs if scratch else budget or self.fidelity.epochs

    def _ancestor(self, row: Rows, budget: int | None) -> Rows | None:
        """The nearest ancestor that was trained; one that broke a constraint was not.

        From the eldest on: where a checkpoint lies depends on whether an elder one was trained.
        """
        elders, parent = [], self.lineage(tuple(row.tolist()))
        while parent is not None:
            elders.append(parent)
            parent = self.lineage(parent)
        found = None
        for elder in reversed(elders):
            candidate = self.space.check(elder)[0]
            if self._checkpoint(candidate, self._epochs(found is not None, budget)).exists():
                found = candidate
        return found

    def _config(self, row: Rows, epochs: int, inherits: bool) -> RetrainConfig:
        config = super()._config(row, epochs, inherits)
        return config if not inherits or self.inherited_lr is None else replace(config, lr=self.inherited_lr)

    def _start(self, row: Rows, budget: int | None) -> tuple[MorphNetwork | None, str]:
        parent = self._ancestor(row, budget)
        if parent is not None:
            path = self.path_of(parent, budget)
            network = load_candidate(self.model, parent, path, self.data.num_classes, self.data.channels)
            return morph(self.model, network, parent, row, self.settings.seed).network, self.space.decode(parent)
        if self.supernet is not None:
            return from_shared(self.supernet, row), "supernet"
        return None, ""
