"""Architectures are trained from the weights of the one that they were made from."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from nasfast.data import DataSet
from nasfast.errors import ConfigError
from nasfast.estimators.base import Estimate
from nasfast.estimators.candidates import load_trained
from nasfast.estimators.train import Fidelity, TrainEstimator, TrainSettings
from nasfast.morphism import MorphNetwork, from_shared, morph
from nasfast.spaces.base import Ancestors, Rows, Space
from nasfast.supernets.shared import SharedNetwork
from nasfast.training.config import RetrainConfig
from nasfast.utils.progress import Progress


class InheritEstimator(TrainEstimator):
    """Trains a child for a few epochs from its parent's weights, by :func:`nasfast.morphism.morph`.

    Elsken, Metzen, Hutter, "Simple and Efficient Architecture Search for Convolutional Neural Networks", 2017. The
    learning rate starts again for every child, at ``inherited_lr``, and falls to 0 along half a cosine.

    What a row was made from it is told by :meth:`note_ancestors`, as a search does. A row's estimate depends on that
    alone: never on which checkpoints lie in the folder.

    Args:
        inherited_lr: Learning rate in the first epoch of what inherits: low enough not to undo what was learned. None:
            that of the settings.
        first_epochs: Of architectures that have no parent. Others: the default fidelity's.
        supernet: A trained shared network of the space, whose weights architectures without a parent start from, for
            the default fidelity's epochs; None: they start from scratch.
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
        if inherited_lr is not None and not inherited_lr > 0:
            raise ConfigError(f"inherited_lr must be above 0, got {inherited_lr}")
        self.first_epochs, self.inherited_lr = first_epochs, inherited_lr
        self.supernet: SharedNetwork | None = None
        if supernet is not None:
            self.start_from(supernet)
        self._ancestors: dict[tuple[int, ...], Ancestors] = {}

    def start_from(self, supernet: SharedNetwork) -> None:
        """Start architectures without a parent from a trained shared network, as the argument ``supernet`` does.

        Raises:
            ConfigError: It does not go with the space or the images.
        """
        expected = (self.model.name, self.data.num_classes, self.data.channels)
        found = (supernet.space.name, supernet.num_classes, supernet.in_channels)
        if found != expected:
            raise ConfigError(f"the shared network must be of {expected} (space, classes, channels), got {found}")
        self.supernet = supernet

    def note_ancestors(self, row: tuple[int, ...], ancestors: Ancestors) -> None:
        """See :class:`nasfast.estimators.WarmStartEstimator`. Weights come from the last of ``ancestors``."""
        self._ancestors[row] = ancestors

    def estimate(self, rows: Rows, fidelity: int | None = None) -> list[Estimate]:
        """See :class:`TrainEstimator`. Rows whose ancestors were not noted have none.

        Raises:
            CheckpointError: The weights of an ancestor, which was estimated, are not in the folder.
        """
        return super().estimate(rows, fidelity)

    def epochs(self, row: Rows, fidelity: int | None = None) -> int:
        """Epochs that a row is trained for: fewer where it inherits."""
        return self._epochs(bool(self._ancestors_of(row)), fidelity)

    def _ancestors_of(self, row: Rows) -> Ancestors:
        return self._ancestors.get(tuple(row.tolist()), ())

    def _epochs(self, descends: bool, fidelity: int | None) -> int:
        scratch = self.supernet is None and not descends
        return self.first_epochs if scratch else fidelity or self.default_fidelity.epochs

    def _config(self, row: Rows, epochs: int, inherits: bool) -> RetrainConfig:
        config = super()._config(row, epochs, inherits)
        return config if not inherits or self.inherited_lr is None else replace(config, lr=self.inherited_lr)

    def _start(self, row: Rows, fidelity: int | None) -> tuple[MorphNetwork | None, str]:
        ancestors = self._ancestors_of(row)
        if ancestors:
            parent = self.space.check(ancestors[-1])[0]
            path = self._checkpoint(parent, self._epochs(len(ancestors) > 1, fidelity))
            network = load_trained(self.model, parent, path, self.data.num_classes, self.data.channels)
            return morph(self.model, network, parent, row, self.settings.seed).network, self.space.decode(parent)
        if self.supernet is not None:
            return from_shared(self.supernet, row), "supernet"
        return None, ""
