"""The weights that a search has trained for an architecture: its own training's, or those in the shared network."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from nasfast.blackbox_config import ESTIMATORS, BlackBoxConfig
from nasfast.config import SearchConfig
from nasfast.data import DataSet
from nasfast.errors import ConfigError, RunError
from nasfast.estimators.candidates import find_candidate, load_candidate
from nasfast.morphism import MorphNetwork, from_shared
from nasfast.oneshot_config import OneShotConfig
from nasfast.oneshot_training import TRAINING_KIND, SupernetTraining
from nasfast.run import RunFolder, load_checkpoint
from nasfast.spaces.joint import architectures_of


def learned_network(
    run: RunFolder, config: SearchConfig | OneShotConfig | BlackBoxConfig, arch: str, dataset: DataSet
) -> tuple[MorphNetwork, str]:
    """The network of an architecture with the weights that the search of a run has for it, and where they are from.

    Args:
        arch: Its text as the search wrote it, with the training settings where it has searched those too.
        dataset: The images of the run.

    Raises:
        ConfigError: The search trains no networks that are those of its space.
        RunError: It has not trained this one.
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
    path = find_candidate(run.candidates_path, row, (config.epochs, config.first_epochs))
    if path is None:
        raise RunError(f"{run.path} has no weights of {arch}: it has not trained this architecture")
    # A network knows nothing of training settings, and its gates are counted by the architecture's nodes.
    bare = architectures_of(space)
    network = load_candidate(bare, np.array(row[: len(bare.sizes)]), path, dataset.num_classes, dataset.channels)
    return network, f"{path.parent.name}/{path.name}"


def _of_shared_network(run: RunFolder, config: OneShotConfig, arch: str, data: DataSet) -> tuple[MorphNetwork, str]:
    space = config.make_space()
    training = SupernetTraining(replace(config, device="cpu"), space, data)
    training.load_state(load_checkpoint(run.checkpoint_path, TRAINING_KIND))
    return from_shared(training.network, space.encode(arch)), run.checkpoint_path.name
