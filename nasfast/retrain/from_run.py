"""What a run folder says of its search, for the commands that train, test and export the networks it has found."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from nasfast.config.base import named_texts, option_name
from nasfast.config.blackbox import BlackBoxConfig
from nasfast.config.gradient import SearchConfig
from nasfast.config.oneshot import OneShotConfig
from nasfast.data import DATA_SETS, DataSet
from nasfast.data.image_file import Size
from nasfast.errors import ConfigError, RunError
from nasfast.retrain.inherited import inherited_weights, learned_network
from nasfast.runs.folder import RunFolder
from nasfast.runs.genotype import read_genotype
from nasfast.search.gradient.retraining import LABELS, kept_settings
from nasfast.search.inputs import check_data_record, load_run_data
from nasfast.search.kinds import kind_of
from nasfast.spaces.genotype import Genotype
from nasfast.spaces.hyperparameters import split_text
from nasfast.spaces.registry import make_space
from nasfast.training.config import RetrainConfig, RetrainResult
from nasfast.training.genotype_trainer import retrain
from nasfast.training.space_trainer import retrain_row
from nasfast.utils.device import check_device
from nasfast.utils.progress import Progress
from nasfast.utils.sealed import read_sealed
from nasfast.utils.suggest import did_you_mean


@dataclass(frozen=True)
class StoredSearch:
    """A run, opened for reading, and its settings."""

    folder: RunFolder
    config: SearchConfig | OneShotConfig | BlackBoxConfig

    @property
    def space(self) -> str:
        """Name of the space; "" for a search of cells."""
        return "" if isinstance(self.config, SearchConfig) and not self.config.of_space else self.config.space

    @property
    def label(self) -> str:
        """Of the network that the search is for."""
        return "derived" if isinstance(self.config, SearchConfig) else "best"

    def retrain_config(self, label: str) -> RetrainConfig:
        """How the run trains an architecture from scratch; one that trains none, as a one-shot search does.

        Args:
            label: Of the training; those of the run itself have what was decided for them after its search.
        """
        config = self.config
        if isinstance(config, BlackBoxConfig):
            config = OneShotConfig.of({"data": config.data, "seed": config.seed, "device": config.device})
        found = config.retrain_config()
        found = found.plain() if self.space else found
        return replace(found, **kept_settings(self.folder)) if label in LABELS else found

    def load_data(self, progress: Progress, other: str = "", size: Size | None = None) -> DataSet:
        """The images that the run has learned from, or those of another name or path.

        Args:
            other: The name or path.
            size: To which images of another folder are scaled.

        Raises:
            RunError: They are no longer the same.
        """
        if other:
            folder = other not in DATA_SETS
            return load_run_data(replace(self.config, data=other), progress, size if folder else None)
        dataset = load_run_data(self.config, progress)
        check_data_record(self.folder, dataset)
        return dataset

    def architecture(self) -> str:
        """Text of the architecture that a search of a space has found.

        Raises:
            RunError: It has found none yet, or its file is damaged.
        """
        path = self.folder.architectures_path
        if not path.is_file():
            raise RunError(
                f"{self.folder.path} has found no architecture yet; go on with it (--resume), or give one by --arch"
            )
        try:
            content = read_sealed(path, f"architectures of {self.space}", RunError)
            entry = content["best"] if "best" in content else content["architectures"]["derived"]
            return str(entry["arch"])
        except (KeyError, TypeError) as error:
            raise RunError(f"{path} cannot be read as architectures of {self.space}: {error}") from error


def read_stored_search(path: str | os.PathLike[str]) -> StoredSearch:
    """The search of a run folder.

    Raises:
        RunError: No run is there, or one that has no images.
    """
    folder = RunFolder.open(path, lock=False)
    content = folder.read_config()
    kind = kind_of(content, folder.config_path)
    config = kind.make_settings(content[kind.key])
    if isinstance(config, BlackBoxConfig) and not config.sees_images:
        raise RunError(f"{path} has searched a table: it has no images to train, test or export a network with")
    return StoredSearch(folder, config)


def retrain_of_space(
    stored: StoredSearch,
    run: RunFolder,
    *,
    label: str,
    arch: str | None = None,
    space_set: tuple[str, ...] = (),
    options: dict[str, Any],
    progress: Progress,
    overwrite: bool = False,
    inherit: bool = False,
) -> RetrainResult:
    """Train an architecture of the space that a run has searched; continue where that was stopped.

    Args:
        run: The folder, opened for writing.
        label: Name of this training within the run.
        arch: Its text; None for the one that was found. Training settings in it, which a search with --tune finds, are
            over those of the run.
        space_set: Settings of the space, over those that were searched with: a larger network of the same choices.
        options: Of :class:`RetrainConfig`, over those of the run and of the text.
        overwrite: Start again, whatever an earlier training of this label left.
        inherit: Start from the weights that the search has trained for it.

    Raises:
        NasfastError: Settings or an architecture that do not fit, files that cannot be read or written.
        KeyboardInterrupt: Ctrl-C; the state was saved after the step that was running.
    """
    _check_label(label)
    settings = {**stored.config.space_settings(), **named_texts("--space-set", space_set)}
    space = make_space(stored.space, settings)
    whole = arch or stored.architecture()
    text, tuned = split_text(whole)
    config = replace(stored.retrain_config(label), **{**tuned, **options})
    check_device(config.device)
    row = space.encode(text)
    dataset = stored.load_data(progress)
    network, origin = None, ""
    if inherit:
        if space_set:
            raise ConfigError("--inherit starts from a network of the searched size: leave out --space-set")
        network, origin = learned_network(run, stored.config, whole, dataset)
    return retrain_row(
        space, row, dataset, run, config, label, progress,
        settings=settings, overwrite=overwrite, network=network, origin=origin,
    )  # fmt: skip


def retrain_stored(
    path: str | os.PathLike[str],
    label: str | None,
    settings: Mapping[str, Any],
    progress: Progress,
    overwrite: bool = False,
    inherit: bool = False,
) -> RetrainResult:
    """Train what the run at ``path`` has found: cells, or an architecture of a space.

    Args:
        label: Name of this training; None for that of the network that the search is for.
        settings: Of :class:`RetrainConfig`; of cells also ``genotype``, of a space ``arch`` and ``space_set``.
        overwrite, inherit: See :func:`retrain_of_space`.

    Raises:
        ConfigError: A setting is unknown, or is of cells where a space was searched or the other way round.
        NasfastError: See :func:`retrain_of_space`.
    """
    stored = read_stored_search(path)
    given = {name: value for name, value in settings.items() if value is not None}
    own, foreign = (OF_SPACES, OF_CELLS) if stored.space else (OF_CELLS, OF_SPACES)
    for name in given:
        if name in foreign:
            what = f"of the space {stored.space}" if stored.space else "of cells"
            raise ConfigError(f"{option_name(name)} does not go with {path}, a search {what}")
        if name not in (*OF_ALL, *own):
            raise ConfigError(f"unknown setting {name!r} of a retraining{did_you_mean(name, (*OF_ALL, *own))}")
    name = stored.label if label is None else label
    with RunFolder.open(path) as run:
        if not stored.space:
            return _retrain_cells(stored, run, name, given, progress, overwrite, inherit)
        choices = {key: given.pop(key) for key in OF_SPACES if key in given}
        if "space_set" in choices:
            choices["space_set"] = tuple(choices["space_set"])
        return retrain_of_space(
            stored, run, label=name, options=given, progress=progress, overwrite=overwrite, inherit=inherit, **choices
        )


OF_ALL = ("epochs", "batch_size", "lr", "cutout", "seed", "device")
OF_CELLS = ("genotype", "channels", "layers", "drop_path", "auxiliary")
OF_SPACES = ("arch", "space_set")


def _retrain_cells(
    stored: StoredSearch,
    run: RunFolder,
    label: str,
    given: dict[str, Any],
    progress: Progress,
    overwrite: bool,
    inherit: bool,
) -> RetrainResult:
    given_genotype = given.pop("genotype", None)
    settings = replace(stored.retrain_config(label), **given)
    check_device(settings.device)
    cells = read_genotype(run) if given_genotype is None else Genotype.load(given_genotype)
    dataset = stored.load_data(progress)
    weights = inherited_weights(run) if inherit else None
    return retrain(cells, dataset, run, settings, label, weights, progress, overwrite=overwrite)


def _check_label(label: str) -> None:
    if not label or not all(c.isalnum() or c in "-_" for c in label):
        raise ConfigError(f"retrain: a label is made of letters, digits, - and _, got {label!r}")
