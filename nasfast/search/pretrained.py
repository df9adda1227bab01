"""The trained shared network of a one-shot run, for searches whose architectures start from its weights."""

from __future__ import annotations

import zlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch

from nasfast.config.oneshot import OneShotConfig
from nasfast.data import DataSet, split_indices
from nasfast.errors import ConfigError, DataError, RunError, SpaceError
from nasfast.runs.checkpoint import CheckpointError, load_checkpoint
from nasfast.runs.folder import RunFolder, search_path
from nasfast.spaces.base import Space
from nasfast.spaces.registry import SPACES, resolve_settings
from nasfast.supernets import SharedNetwork, make_supernet

TRAINING_KIND = "oneshot"
"""Of the checkpoints of the training of a shared network."""


@dataclass(frozen=True)
class SupernetSpec:
    """What a search needs of a shared network.

    Attributes:
        space: Whose network it has to be.
        settings: With which :func:`nasfast.spaces.registry.make_space` makes the space; not looked at for one of your
            own.
        fingerprint: Of the images, as :func:`nasfast.data.fingerprint.data_fingerprint` gives it.
        held_out, seed: What share of the train images the search compares architectures on, and how it draws them.
    """

    space: Space
    settings: Mapping[str, str]
    fingerprint: Sequence[int]
    held_out: float
    seed: int


def load_network(path: str, wanted: SupernetSpec, dataset: DataSet) -> SharedNetwork:
    """The shared network of a run of ``nasfast search --estimator oneshot``, in float32 on the CPU.

    Args:
        path: The run folder.
        dataset: The images of the search, before any are held out.

    Raises:
        RunError: No run is there, none with a shared network, or its training is not over.
        SpaceError: It is of another space, or of one with other settings.
        DataError: It was trained on other images.
        ConfigError: It was trained on images that the search holds out.
    """
    run = _open(path)
    config = OneShotConfig.of(run.read_config()["oneshot"])
    _check_space(path, config, wanted)
    state = _trained_state(run, f"--supernet {path}")
    if list(state["data"]) != list(wanted.fingerprint):
        raise DataError(
            f"--supernet {path} was trained on other images, of {config.data}, --test-fraction {config.test_fraction} "
            f"and --seed {config.seed}; expected those of the search"
        )
    _check_split(path, config, wanted, len(dataset.train_labels))
    return _build(f"--supernet {path}", wanted.space, dataset, state)


def own_network(run: RunFolder, config: OneShotConfig, dataset: DataSet) -> SharedNetwork:
    """The shared network of a one-shot run, in float32 on the CPU.

    Args:
        config: Of the run.
        dataset: Its images.

    Raises:
        RunError: Its training is not over.
    """
    return _build(str(run.path), config.make_space(), dataset, _trained_state(run, str(run.path)))


def _trained_state(run: RunFolder, name: str) -> dict[str, Any]:
    """The checkpoint of a training that is over."""
    if not search_path(run).exists():
        raise RunError(f"{name} is not trained to its end; go on with it: nasfast search --resume {run.path}")
    return load_checkpoint(run.checkpoint_path, TRAINING_KIND)


def network_fingerprint(network: SharedNetwork) -> int:
    """A checksum of all weights and statistics, by name."""
    found = 0
    for name, value in sorted(network.state_dict().items()):
        found = zlib.crc32(value.cpu().contiguous().numpy().data, zlib.crc32(name.encode(), found))
    return found


def _open(path: str) -> RunFolder:
    """A run that has a shared network."""
    try:
        run = RunFolder.open(path, lock=False)
    except RunError as error:
        raise RunError(f"--supernet: {error}; expected a run of nasfast search --estimator oneshot") from error
    if not isinstance(run.read_config().get("oneshot"), dict):
        raise RunError(f"--supernet {path} has no shared network; expected a run of nasfast search --estimator oneshot")
    return run


def _check_space(path: str, config: OneShotConfig, wanted: SupernetSpec) -> None:
    name = wanted.space.name
    if config.space != name:
        raise SpaceError(f"--supernet {path} is of the space {config.space}; expected {name}, which is searched")
    if name not in SPACES:
        return
    found, searched = (resolve_settings(name, given) for given in (config.space_settings(), wanted.settings))
    differing = [f"{key} {found[key]} in place of {searched[key]}" for key in found if found[key] != searched[key]]
    if differing:
        raise SpaceError(f"--supernet {path} is of {name} with {', '.join(differing)}, as it is searched")


def _check_split(path: str, config: OneShotConfig, wanted: SupernetSpec, count: int) -> None:
    """Raise ConfigError where the network has learned from images that the search holds out."""
    learned, _ = split_indices(count, 1 - config.held_out, config.seed)
    _, compared = split_indices(count, 1 - wanted.held_out, wanted.seed)
    known = int(torch.isin(compared, learned).sum())
    if known:
        raise ConfigError(
            f"--supernet {path} was trained on {known} of the {len(compared)} images that the search holds out; give "
            f"--seed {config.seed} and --held-out {config.held_out} or less, as it had, got --seed {wanted.seed} and "
            f"--held-out {wanted.held_out}"
        )


def _build(name: str, space: Space, dataset: DataSet, state: Mapping[str, Any]) -> SharedNetwork:
    with torch.random.fork_rng(devices=[]):
        network = make_supernet(space, dataset.num_classes, dataset.channels)
    try:
        network.load_state_dict(state["network"])
    except (KeyError, TypeError, RuntimeError) as error:
        raise CheckpointError(
            f"{name} has no weights of {space.name} with {dataset.num_classes} classes and {dataset.channels} channels"
        ) from error
    return network
