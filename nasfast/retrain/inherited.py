"""The weights that a search has trained for an architecture: its own training's, or those in the shared network."""

from __future__ import annotations

import numpy as np
from torch import Tensor

from nasfast.config.blackbox import ESTIMATORS, BlackBoxConfig
from nasfast.config.gradient import SearchConfig
from nasfast.config.oneshot import OneShotConfig
from nasfast.data import DataSet
from nasfast.errors import ConfigError, RunError
from nasfast.estimators.candidates import find_candidate, load_trained
from nasfast.morphism import MorphNetwork, from_shared
from nasfast.runs.checkpoint import load_checkpoint
from nasfast.runs.folder import RunFolder
from nasfast.search.gradient.loop import KIND
from nasfast.search.pretrained import own_network
from nasfast.spaces.joint import architectures_of
from nasfast.strategies.registry import MULTI_FIDELITY


def learned_network(
    run: RunFolder, config: SearchConfig | OneShotConfig | BlackBoxConfig, arch: str, dataset: DataSet
) -> tuple[MorphNetwork, str]:
    """The network of an architecture with the weights that the search of a run has for it, and where they are from.

    Args:
        arch: Its text as the search wrote it, with the training settings where it has searched those too.
        dataset: The images of the run.

    Raises:
        ConfigError: The search trains no networks that are those of its space.
        RunError: It has not trained this one, or not to the end.
    """
    if isinstance(config, OneShotConfig):
        return _of_shared_network(run, config, arch, dataset)
    if not isinstance(config, BlackBoxConfig) or "epochs" not in ESTIMATORS[config.estimator]:
        raise ConfigError(f"{run.path} has trained no network of one architecture that a training could start from")
    if config.fidelity_set:
        raise ConfigError(
            f"{run.path} has trained smaller networks ({', '.join(config.fidelity_set)}) than those of its space: they "
            "cannot be trained further as those of the space"
        )
    space = config.make_space()
    row = space.encode(arch)
    path = find_candidate(run.candidates_path, row, _epochs_of(config))
    if path is None:
        raise RunError(f"{run.path} has no weights of {arch}: it has not trained this architecture")
    # A network knows nothing of training settings, and its gates are counted by the architecture's nodes.
    bare = architectures_of(space)
    network = load_trained(bare, np.array(row[: len(bare.sizes)]), path, dataset.num_classes, dataset.channels)
    return network, f"{path.parent.name}/{path.name}"


def _epochs_of(config: BlackBoxConfig) -> tuple[int, ...]:
    """Epochs of the trainings of an architecture, the best one first."""
    if config.estimator == "inherit":
        return config.epochs, config.first_epochs
    if config.strategy in MULTI_FIDELITY and not config.continue_rungs:
        return tuple(reversed(config.rungs()))
    return (config.epochs,)  # on a schedule of so many


def _of_shared_network(run: RunFolder, config: OneShotConfig, arch: str, data: DataSet) -> tuple[MorphNetwork, str]:
    network = own_network(run, config, data)
    return from_shared(network, network.space.encode(arch)), run.checkpoint_path.name


def inherited_weights(run: RunFolder) -> dict[str, Tensor]:
    """Weights of a run's search network, to start a retraining from."""
    weights: dict[str, Tensor] = load_checkpoint(run.checkpoint_path, KIND)["strategy"]["network"]
    return weights
