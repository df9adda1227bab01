"""What a black-box search asks: the estimator that its settings name, and the task that the estimates are of."""

from __future__ import annotations

import socket
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from nasfast.config.blackbox import BlackBoxConfig
from nasfast.data import DataSet, normalize
from nasfast.data.fingerprint import data_fingerprint
from nasfast.errors import ConfigError, DataError, RunError
from nasfast.estimators.base import Estimator
from nasfast.estimators.curves.estimator import CurveEstimator, StoppingEstimator
from nasfast.estimators.inherit import InheritEstimator
from nasfast.estimators.rungs import RungEstimator
from nasfast.estimators.table import TableEstimator
from nasfast.estimators.train import Fidelity, TrainEstimator, TrainSettings
from nasfast.estimators.zero_cost import ZeroCostEstimator
from nasfast.runs.folder import RunFolder
from nasfast.search.inputs import check_space_size, load_run_data
from nasfast.search.pretrained import SupernetSpec, load_network, network_fingerprint
from nasfast.search.workers.open import on_worker
from nasfast.spaces.base import Space
from nasfast.spaces.joint import architectures_of
from nasfast.spaces.nasbench201 import TASKS
from nasfast.supernets import SharedNetwork
from nasfast.utils.progress import Progress

# Each generator of a run has a seed of its own, this far from the run's, so that no two draw the same numbers.
_SEED_BATCH, _SEED_WEIGHTS = 21, 22


@dataclass(frozen=True)
class Task:
    """An estimator, and what its architectures are to tell apart.

    Attributes:
        num_classes: Classes.
        image_size: Pixels a side; None for those of the space.
        fingerprint: Of the images, () without.
        supernet: Checksum of the shared network that architectures start from; None without.
    """

    estimator: Estimator
    num_classes: int = 10
    image_size: int | None = None
    fingerprint: tuple[int, ...] = ()
    supernet: int | None = None


def make_task(
    config: BlackBoxConfig,
    space: Space,
    folder: Path,
    progress: Progress,
    trainings: Progress | None = None,
) -> Task:
    """The estimator that the settings name.

    Args:
        folder: For what an estimator keeps, such as checkpoints; it is made when there is something to keep.
        progress: Where to show how the images are read.
        trainings: Where to show how a network is trained; nowhere by default.

    Raises:
        ConfigError: The settings do not go with the space.
        DataError: Its table or its images cannot be read.
        NasfastError: The shared network that it starts from does not fit; see
            :func:`nasfast.search.pretrained.load_network`.
        SpaceError: The space does not take images of this size.
    """
    if not config.sees_images:
        return table_task(config, TableEstimator(config.table, space, config.table_data))
    dataset = load_run_data(config, progress)
    check_space_size(space, dataset)
    fingerprint = tuple(data_fingerprint(dataset))
    estimator = _BY_IMAGES[config.estimator](config, space, dataset.to(config.device), folder)
    checksum = None
    if isinstance(estimator, InheritEstimator) and config.supernet:
        network = _load_network(config, estimator.model, dataset, fingerprint)
        estimator.start_from(network)
        checksum = network_fingerprint(network)
    if isinstance(estimator, TrainEstimator) and trainings is not None:
        estimator.progress = trainings
    return Task(estimator, dataset.num_classes, dataset.size[0], fingerprint, checksum)


def table_task(config: BlackBoxConfig, estimator: Estimator) -> Task:
    """The task that a table's scores, or those of an estimator of your own, are of."""
    classes, size = TASKS.get(config.table_data, (10, None)) if config.space == "nasbench201" else (10, None)
    return Task(estimator, classes, size)


def worker_estimator(
    settings: Mapping[str, Any],
    space: Space | None,
    estimator: Estimator | None,
    folder: str,
    supernet: int | None,
    progress: Progress,
    index: int,
) -> Estimator:
    """What a worker estimates with.

    Args:
        settings: Of the search, by name.
        space, estimator: Of your own, in place of those that the settings name.
        folder: For checkpoints.
        supernet: Checksum of the shared network that the search has; None without.
        progress: Of trainings.
        index: Of the worker.

    Raises:
        RunError: Weights are to be inherited, and the run folder, or the search's shared network, is not here.
    """
    if estimator is not None:
        return estimator
    config = on_worker(BlackBoxConfig.of(settings), index)
    if config.estimator == "inherit" or config.continue_rungs:
        _check_shared(Path(folder).parent)
    space = config.make_space() if space is None else config.tuned(space)
    task = make_task(config, space, Path(folder), Progress(quiet=True), progress)
    if task.supernet != supernet:
        raise RunError(f"the shared network of {config.supernet} is not that which the search began with")
    return task.estimator


def _check_shared(run: Path) -> None:
    """Raise RunError where a worker does not see the run, in which others leave weights to go on from."""
    if not RunFolder(run).config_path.is_file():
        raise RunError(
            f"{socket.gethostname()} does not see the run folder {run}, which has weights to go on from; expected it "
            "on a disk that all nodes share"
        )


def _zero_cost(config: BlackBoxConfig, space: Space, dataset: DataSet, folder: Path) -> Estimator:
    count = len(dataset.train_labels)
    if config.proxy_images > count:
        raise DataError(f"--proxy-images {config.proxy_images} is more than the {count} train images")
    generator = torch.Generator().manual_seed(config.seed + _SEED_BATCH)
    chosen = torch.randperm(count, generator=generator)[: config.proxy_images].to(config.device)
    return ZeroCostEstimator(
        space,
        normalize(dataset.train_images[chosen], dataset.mean, dataset.std),
        dataset.train_labels[chosen],
        config.proxy or ("synflow",),
        config.seed + _SEED_WEIGHTS,
        draws=config.proxy_draws,
        remember=not config.workers,
        num_classes=dataset.num_classes,
    )


def _train(config: BlackBoxConfig, space: Space, dataset: DataSet, folder: Path) -> Estimator:
    settings, fidelity = _training(config, space)
    if config.stop_early is not None:
        return StoppingEstimator(space, dataset, folder, config.stop_early, settings, fidelity)
    if config.continue_rungs:
        return RungEstimator(space, dataset, folder, config.rungs(), settings, fidelity)
    return TrainEstimator(space, dataset, folder, settings, fidelity)


def _extrapolate(config: BlackBoxConfig, space: Space, dataset: DataSet, folder: Path) -> Estimator:
    return CurveEstimator(space, dataset, folder, config.observe, *_training(config, space))


def _inherit(config: BlackBoxConfig, space: Space, dataset: DataSet, folder: Path) -> Estimator:
    settings, fidelity = _training(config, space)
    return InheritEstimator(
        space, dataset, folder, settings, fidelity, config.first_epochs, inherited_lr=config.inherited_lr
    )


def _load_network(
    config: BlackBoxConfig, model: Space, dataset: DataSet, fingerprint: tuple[int, ...]
) -> SharedNetwork:
    wanted = SupernetSpec(model, config.trained_settings(), fingerprint, config.held_out, config.seed)
    return load_network(config.supernet, wanted, dataset)


def _training(config: BlackBoxConfig, space: Space) -> tuple[TrainSettings, Fidelity]:
    """How architectures are trained, and at which fidelity."""
    if config.fidelity_set and type(architectures_of(space)) is not type(architectures_of(config.make_space())):
        raise ConfigError(f"--fidelity-set belongs to a space by name, got one of your own, {space.name}")
    return config.training(), Fidelity(
        config.epochs, config.fidelity_images, config.fidelity_size, config.smaller_space()
    )


_BY_IMAGES: dict[str, Callable[[BlackBoxConfig, Space, DataSet, Path], Estimator]] = {
    "zero-cost": _zero_cost,
    "train": _train,
    "extrapolate": _extrapolate,
    "inherit": _inherit,
}
"""What makes each estimator that looks at images."""
