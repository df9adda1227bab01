"""Data sets held in memory: the digits of scikit-learn, CIFAR-10, or images of your own."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass, field
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from nasfast.data.augment import Augmentation
from nasfast.data.folder import load_folder, split_by_class
from nasfast.data.image_file import Size
from nasfast.errors import DataError
from nasfast.utils.progress import Progress
from nasfast.utils.seeds import check_seed
from nasfast.utils.shown import as_utf8

DATA_SETS = ("digits", "cifar10")
"""Data sets that have a name."""


@dataclass
class DataSet:
    """Images and labels of a classification task, train and test.

    Images are uint8 ``[N, H, W, 3]`` (grey ones repeat their channel: the public networks take three), labels int64
    ``[N]``. ``mean`` and ``std`` are per channel over the train images, on the scale 0 to 1. Of images of your own,
    ``skipped`` names files that could not be read, ``test_files`` those of the test images, ``repeated`` counts test
    images that are train images too, and ``notes`` says what was done to images and what was left out.
    """

    name: str
    train_images: torch.Tensor
    train_labels: torch.Tensor
    test_images: torch.Tensor
    test_labels: torch.Tensor
    class_names: list[str]
    augmentation: Augmentation
    mean: list[float] = field(init=False)
    std: list[float] = field(init=False)
    skipped: list[str] = field(default_factory=list)
    test_files: list[str] = field(default_factory=list)
    repeated: int = 0
    notes: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.mean, self.std = _channel_statistics(self.train_images)

    @property
    def num_classes(self) -> int:
        """How many classes there are."""
        return len(self.class_names)

    @property
    def channels(self) -> int:
        """Channels of an image."""
        return int(self.train_images.shape[3])

    @property
    def size(self) -> tuple[int, int]:
        """Height and width of an image, in pixels."""
        return int(self.train_images.shape[1]), int(self.train_images.shape[2])

    def to(self, device: torch.device | str) -> DataSet:
        """Move the images and labels; in place, returns self."""
        self.train_images, self.train_labels = self.train_images.to(device), self.train_labels.to(device)
        self.test_images, self.test_labels = self.test_images.to(device), self.test_labels.to(device)
        return self


_STATISTICS_CHUNK = 64  # images


def _channel_statistics(images: torch.Tensor) -> tuple[list[float], list[float]]:
    """Mean and standard deviation per channel, from how often each value occurs: exact, and without wide copies."""
    counts = torch.zeros(images.shape[3], 256, dtype=torch.int64)
    for chunk in images.cpu().split(_STATISTICS_CHUNK):
        for channel, values in enumerate(chunk.unbind(3)):
            counts[channel] += torch.bincount(values.flatten(), minlength=256)
    values = torch.arange(256, dtype=torch.float64)
    total, squares = counts.double() @ values, counts.double() @ values.square()
    count = images.shape[0] * images.shape[1] * images.shape[2]
    mean = total / count
    std = (squares / count - mean.square()).clamp_min(0).sqrt()
    # A channel that never changes carries nothing; one grey level keeps the division finite.
    return (mean / 255).tolist(), (std.clamp_min(1.0) / 255).tolist()


def load_data(
    source: str,
    *,
    root: str | os.PathLike[str] = "data",
    download: bool = False,
    skip_bad: bool = False,
    test_fraction: float = 0.2,
    image_size: int | Size | None = None,
    seed: int = 0,
    threads: int | None = None,
    progress: Progress | None = None,
) -> DataSet:
    """Load a data set into memory.

    Args:
        source: ``"digits"`` (1,797 real handwritten digits of 8x8 pixels that scikit-learn ships), ``"cifar10"``, or
            the path of an image folder: one folder per class, below ``train/`` and ``test/`` (or ``val/``, ``valid/``)
            or directly, in which case a test set is split off: by the content of each file, so that images that are
            added later move no other. Photos are turned as their camera says; transparent parts become white.
            Hidden folders and those of systems (``@eaDir``, ``__MACOSX``) are left out. A zip or tar file of such a
            folder is the same data set; a CSV file names images, their labels and, if it likes, their ``split``.
        root: Where torchvision keeps CIFAR-10.
        download: Let torchvision fetch CIFAR-10 where ``root`` lacks it.
        skip_bad: Leave any number of images out that cannot be read, or that a CSV file names and that are not there or
            have no label; without, more than one in twenty are an error.
            ``DataSet.skipped`` names them.
        test_fraction: Share of each class that becomes the test set, where the data set has none of its own.
        image_size: Height and width to which images of a folder are scaled and cropped, or one side for both. None:
            images of one size of at most 224 pixels are taken as they are, others as squares of up to 48 pixels.
        seed: Of that split.
        threads: Threads that decode images; all cores where None.
        progress: Where to show how far it is.

    Raises:
        DataError: Whatever is wrong with the data, in one line that names the file or folder.
    """
    if not 0 < test_fraction < 1:
        raise DataError(f"test_fraction must be between 0 and 1, got {test_fraction}")
    check_seed("seed", seed, DataError)
    progress = progress or Progress(quiet=True)
    if image_size is not None and source in DATA_SETS:
        raise DataError(f"--image-size goes with an image folder; {source} has images of one size")
    if source == "digits":
        return _load_digits(test_fraction, seed)
    if source == "cifar10":
        return _load_cifar10(Path(root), download)
    size = (image_size, image_size) if isinstance(image_size, int) else image_size
    folder = load_folder(Path(source), skip_bad, test_fraction, seed, threads, progress, size)
    # Shifts by an eighth of the side, as the usual 4 pixels of CIFAR's 32.
    augmentation = Augmentation(pad=max(1, min(folder.images.shape[1:3]) // 8), flip=True)
    images, labels = torch.from_numpy(folder.images), torch.tensor(folder.labels)
    n = folder.train_count
    # Names end up in files that are UTF-8, which names of files need not be.
    name, classes = as_utf8(Path(source).resolve().name), [as_utf8(name) for name in folder.classes]
    return DataSet(
        name, images[:n], labels[:n], images[n:], labels[n:], classes, augmentation,
        skipped=folder.skipped, test_files=folder.test_files, repeated=folder.repeated, notes=folder.notes,
    )  # fmt: skip


def _load_digits(test_fraction: float, seed: int) -> DataSet:
    stored = _stored_digits()
    grey = np.rint(stored[:, :64].reshape(-1, 8, 8) * (255 / 16)).astype(np.uint8)  # stored as 0..16
    images = torch.from_numpy(np.repeat(grey[..., None], 3, axis=3))
    labels = torch.from_numpy(stored[:, 64].astype(np.int64))
    train, test = split_by_class(labels.tolist(), test_fraction, seed)
    names = [str(digit) for digit in range(10)]
    # A mirrored digit is no digit: no flip.
    augmentation = Augmentation(pad=1, flip=False)
    return DataSet("digits", images[train], labels[train], images[test], labels[test], names, augmentation)


def _stored_digits() -> NDArray[np.float64]:
    """Rows of 64 grey values from 0 to 16 and a label: scikit-learn's file where it is, whose import takes seconds.

    Equivalent to ``np.column_stack(sklearn.datasets.load_digits(return_X_y=True))``.
    """
    package = find_spec("sklearn")
    file = Path(package.origin or "").parent / "datasets/data/digits.csv.gz" if package else None
    if file is not None and file.is_file():
        return np.loadtxt(file, delimiter=",")
    from sklearn.datasets import load_digits

    return np.column_stack(load_digits(return_X_y=True))


def _load_cifar10(root: Path, download: bool) -> DataSet:
    from torchvision.datasets import CIFAR10

    try:
        train, test = CIFAR10(str(root), train=True, download=download), CIFAR10(str(root), train=False)
    except (RuntimeError, OSError) as error:
        if download:
            raise DataError(f"CIFAR-10 could not be downloaded to {root}: {_first_line(error)}") from error
        raise DataError(
            f"CIFAR-10 is not in {root}, or is incomplete; name its folder with --data-root or fetch it with --download"
        ) from error
    return DataSet(
        "cifar10",
        torch.from_numpy(train.data),
        torch.tensor(train.targets),
        torch.from_numpy(test.data),
        torch.tensor(test.targets),
        list(train.classes),
        Augmentation(pad=4, flip=True),
    )


def _first_line(error: Exception) -> str:
    lines: Sequence[str] = str(error).splitlines()
    return lines[0] if lines else type(error).__name__
