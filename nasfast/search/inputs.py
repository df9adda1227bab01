"""What a search starts from: its images, checked and pinned."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TypeVar

import numpy as np
import torch

from nasfast.config.data import DataOptions, ImageSearchConfig
from nasfast.data import Augmentation, DataSet, load_data
from nasfast.errors import ConfigError
from nasfast.spaces.base import Space
from nasfast.utils.progress import Progress


def augmentation_of(config: ImageSearchConfig, dataset: DataSet) -> Augmentation:
    """How a run changes its train images: as the data set, where the settings do not say."""
    usual = dataset.augmentation
    return Augmentation(
        usual.pad if config.crop_pad is None else config.crop_pad,
        usual.flip if config.flip is None else config.flip,
        config.cutout,
    )


def check_space_size(space: Space, dataset: DataSet) -> None:
    """Raise SpaceError where an operation of the space does not take images of this size; they must be square."""
    height, width = dataset.size
    if height != width:
        raise ConfigError(f"{space.name}: images must be as high as wide, got {width}x{height} pixels")
    for row in space.neighbours(np.zeros(len(space.sizes), np.int64)):
        space.cost(row, dataset.num_classes, dataset.channels, height)


_Settings = TypeVar("_Settings", bound=DataOptions)


def absolute_path(path: str, names: tuple[str, ...] = ("digits", "cifar10")) -> str:
    return path if path in names else str(Path(path).resolve())


def pin_settings(config: _Settings) -> _Settings:
    """Settings with which a run goes on from any folder, and with its thread count: other counts round differently."""
    return replace(
        config,
        threads=torch.get_num_threads(),
        data=absolute_path(config.data),
        data_root=absolute_path(config.data_root, ()),
    )


def load_run_data(config: DataOptions, progress: Progress) -> DataSet:
    """The data set of a run with these settings."""
    dataset = load_data(
        config.data,
        root=config.data_root,
        download=config.download,
        skip_bad=config.skip_bad,
        test_fraction=config.test_fraction,
        seed=config.seed,
        threads=config.threads or None,
        progress=progress,
    )
    if dataset.skipped:
        count = len(dataset.skipped)
        progress.say(f"left out {count} unreadable image{'s' * (count > 1)}, {dataset.skipped[0]} is the first")
    return dataset
