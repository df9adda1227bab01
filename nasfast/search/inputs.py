"""What a search starts from: its images, checked and pinned."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import torch

from nasfast.config.data import DataOptions, ImageSearchConfig
from nasfast.data import DATA_SETS, Augmentation, DataSet, load_data
from nasfast.data.fingerprint import data_fingerprint
from nasfast.data.image_file import Size, left_out
from nasfast.errors import ConfigError, DataError, RunError
from nasfast.runs.folder import RunFolder
from nasfast.spaces.base import Space
from nasfast.utils.files import atomic_write
from nasfast.utils.progress import Progress
from nasfast.utils.sealed import read_sealed, sealed
from nasfast.utils.shown import shown


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
        raise ConfigError(f"{space.name}: images must be as high as wide, got {width}x{height} pixels (--image-size)")
    for row in space.neighbours(np.zeros(len(space.sizes), np.int64)):
        space.cost(row, dataset.num_classes, dataset.channels, height)


_Settings = TypeVar("_Settings", bound=DataOptions)


def absolute_path(path: str, names: tuple[str, ...] = DATA_SETS) -> str:
    return path if path in names else str(Path(path).resolve())


def pin_settings(config: _Settings) -> _Settings:
    """Settings with which a run goes on from any folder, and with its thread count: other counts round differently."""
    return replace(
        config,
        threads=torch.get_num_threads(),
        data=absolute_path(config.data),
        data_root=absolute_path(config.data_root, ()),
    )


def limit_batches(config: _Settings, most: Mapping[str, int], images: int, progress: Progress) -> _Settings:
    """Settings whose batches are no larger than what they are drawn from, which is said.

    Args:
        most: Images to draw from, by the name of the setting.
        images: Of the train set.

    Raises:
        DataError: There are too few for any batch.
    """
    too_large: dict[str, Any] = {name: limit for name, limit in most.items() if getattr(config, name) > limit}
    for name, limit in too_large.items():
        if limit < 2:
            raise DataError(f"there are {images} images to learn from; a search needs more")
        progress.say(f"the {name.replace('_', ' ')} is {limit}: there are no more images to draw a batch from")
    return replace(config, **too_large)


def load_run_data(config: DataOptions, progress: Progress, size: Size | None = None) -> DataSet:
    """The data set of a run with these settings; ``size`` is that of the images that a run has learned from."""
    dataset = load_data(
        config.data,
        root=config.data_root,
        download=config.download,
        skip_bad=config.skip_bad,
        test_fraction=config.test_fraction,
        image_size=size or config.image_size or None,
        seed=config.seed,
        threads=config.threads or None,
        progress=progress,
    )
    for note in dataset.notes:
        progress.say(note)
    if dataset.skipped:
        progress.say(left_out(dataset.skipped))
    if dataset.repeated:
        progress.say(
            f"{dataset.repeated} of {len(dataset.test_labels)} test images are train images too, byte for byte: "
            "accuracy on them says little"
        )
    return dataset


def keep_data_record(run: RunFolder, fingerprint: Sequence[int]) -> None:
    """Write into a run which images it is of, unless it says so already.

    Args:
        fingerprint: See :func:`nasfast.data.fingerprint.data_fingerprint`; empty where a run looks at none.

    Raises:
        RunError: What it says is damaged.
    """
    if run.data_path.exists():
        read_sealed(run.data_path, "a record of images", RunError)
    else:
        atomic_write(run.data_path, json.dumps(sealed({"fingerprint": list(fingerprint)})) + "\n")


def check_data_record(run: RunFolder, dataset: DataSet) -> None:
    """Make sure that these are the images that a run is of, if it is of any.

    Raises:
        RunError: They are others, or the record is missing, damaged or cannot be read.
    """
    try:
        kept = read_sealed(run.data_path, "a record of images", RunError)["fingerprint"]
    except (KeyError, TypeError) as error:
        raise RunError(f"{run.data_path} cannot be read as a record of images: {error}") from error
    if kept and kept != data_fingerprint(dataset):
        raise RunError(
            f"the images of {shown(dataset.name)} are no longer those that {run.path} has learned from, which may be "
            "among the test images now: put them back as they were, or name others to test on (evaluate --data PATH)"
        )
