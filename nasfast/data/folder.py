"""Image folders: one folder per class, decoded by a thread pool into one array."""

from __future__ import annotations

import os
import stat
from collections import Counter
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from hashlib import blake2b
from pathlib import Path

import numpy as np
import torch
from PIL import Image, UnidentifiedImageError

from nasfast.errors import DataError
from nasfast.utils.progress import Progress, Stage
from nasfast.utils.shown import shown
from nasfast.utils.suggest import did_you_mean

SUFFIXES = (".jpg", ".jpeg", ".png", ".bmp", ".webp", ".gif", ".ppm", ".pgm", ".tif", ".tiff")
_TEST_NAMES = ("test", "val", "valid")
_SYSTEM_NAMES = ("@eaDir", "__MACOSX", "#recycle", "$RECYCLE.BIN", "lost+found")
"""Folders in which file systems, archives and network storage keep copies; hidden ones are left out too."""

_CHUNK = 256  # images per task: large enough that the pool costs nothing beside decoding
_MANY = 10_000  # images: to look through fewer takes no time
_DEEP_MODES = ("I", "F", "I;16", "I;16B", "I;16L", "I;16N")


@dataclass
class FolderImages:
    """Decoded images uint8 ``[N, H, W, 3]`` with their labels; the first ``train_count`` are the train set.

    ``repeated`` counts test images whose files are also in the train set, byte for byte.
    """

    images: np.ndarray
    labels: list[int]
    train_count: int
    classes: list[str]
    skipped: list[str]
    repeated: int


@dataclass
class _Entry:
    path: Path
    label: int
    digest: bytes = b""


def split_by_class(labels: list[int], test_fraction: float, seed: int) -> tuple[list[int], list[int]]:
    """Indices of a train and a test set, both sorted; every class gives its share to each, and at least one image."""
    generator = torch.Generator().manual_seed(seed)
    train: list[int] = []
    test: list[int] = []
    for label in sorted(set(labels)):
        members = [index for index, other in enumerate(labels) if other == label]
        order = torch.randperm(len(members), generator=generator).tolist()
        count = min(max(1, round(len(members) * test_fraction)), len(members) - 1)
        test += [members[i] for i in order[:count]]
        train += [members[i] for i in order[count:]]
    return sorted(train), sorted(test)


def split_by_content(
    labels: Sequence[int], digests: Sequence[bytes], test_fraction: float, seed: int
) -> tuple[list[int], list[int]]:
    """Indices of a train and a test set, both sorted, of which each image's own content decides.

    Images that come or go leave the others where they are, and equal ones are always on one side. A class has about its
    share in the test set, and at least one image in each set.
    """
    key = seed.to_bytes(16, "little", signed=True)
    drawn = [int.from_bytes(blake2b(digest, digest_size=8, key=key).digest(), "big") / 2**64 for digest in digests]
    test: set[int] = set()
    for label in sorted(set(labels)):
        members = sorted((index for index, other in enumerate(labels) if other == label), key=lambda i: (drawn[i], i))
        count = sum(drawn[index] < test_fraction for index in members)
        test.update(members[: min(max(1, count), len(members) - 1)])
    return [i for i in range(len(labels)) if i not in test], sorted(test)


def load_folder(
    root: Path, skip_bad: bool, test_fraction: float, seed: int, threads: int | None, progress: Progress
) -> FolderImages:
    """Find, split and decode; see :func:`nasfast.data.load_data`."""
    train, test, classes = _find(root, test_fraction, seed, threads, progress)
    entries = train + test
    known = {entry.digest for entry in train}
    with progress.stage("read images", len(entries), unit="image") as stage:
        images, bad = _decode([entry.path for entry in entries], skip_bad, threads, stage)
    keep = [index for index in range(len(entries)) if index not in bad]
    train_count = sum(index < len(train) for index in keep)
    labels = [entries[index].label for index in keep]
    _check_classes_left(labels[:train_count], classes, root)
    if train_count == len(keep):
        raise DataError(f"no readable test image is left in {shown(root)}")
    return FolderImages(
        images[keep] if bad else images,
        labels,
        train_count,
        classes,
        [str(entries[index].path) for index in sorted(bad)],
        sum(entries[index].digest in known for index in keep[train_count:]),
    )


def _is_of_system(name: str) -> bool:
    return name.startswith(".") or name in _SYSTEM_NAMES


def _subfolders(folder: Path) -> list[Path]:
    try:
        return sorted(path for path in folder.iterdir() if path.is_dir() and not _is_of_system(path.name))
    except OSError as error:
        raise DataError(f"cannot read data folder {shown(folder)}: {error.strerror}") from error


def _find(
    root: Path, test_fraction: float, seed: int, threads: int | None, progress: Progress
) -> tuple[list[_Entry], list[_Entry], list[str]]:
    """Train and test files in sorted order, and the class names."""
    if not root.exists():
        close = did_you_mean(root.name, ("digits", "cifar10"))
        raise DataError(
            f"data folder {shown(root)} does not exist; expected digits, cifar10 or the path of an image folder{close}"
        )
    if not root.is_dir():
        raise DataError(f"{shown(root)} is a file; expected a folder that holds one folder of images per class")
    names = {path.name: path for path in _subfolders(root)}
    has_train = "train" in names and bool(_subfolders(names["train"]))
    train_root = names["train"] if has_train else root
    test_root = next((names[name] for name in _TEST_NAMES if has_train and name in names), None)
    train, classes = _scan(train_root)
    if len(classes) < 2:
        raise DataError(
            f"{shown(train_root)} holds one class ({shown(classes[0])}); expected at least two class folders"
        )
    if test_root is not None:
        test, test_classes = _scan(test_root)
        for name in sorted(set(classes) ^ set(test_classes)):
            here, there = (train_root, test_root) if name in classes else (test_root, train_root)
            raise DataError(
                f"class {shown(name)} is in {shown(here)} but not in {shown(there)}; "
                "expected the same class folders in both"
            )
        _digest(train + test, threads, progress)
        return train, test, classes
    counts = Counter(entry.label for entry in train)
    for label, name in enumerate(classes):
        if counts[label] < 2:
            raise DataError(
                f"class folder {shown(train_root / name)} holds one image; splitting off a test set needs two"
            )
    _digest(train, threads, progress)
    labels, digests = [entry.label for entry in train], [entry.digest for entry in train]
    train_index, test_index = split_by_content(labels, digests, test_fraction, seed)
    return [train[i] for i in train_index], [train[i] for i in test_index], classes


def _scan(root: Path) -> tuple[list[_Entry], list[str]]:
    """All images below the class folders of ``root``, sorted, with the classes numbered by sorted name."""
    folders = _subfolders(root)
    if not folders:
        loose = any(path.suffix.lower() in SUFFIXES for path in root.iterdir())
        found = "images but no class folder" if loose else "no images"
        raise DataError(f"data folder {shown(root)} holds {found}; expected one folder of images per class")
    entries: list[_Entry] = []
    for label, folder in enumerate(folders):
        if folder.is_symlink() and folder.resolve() in (root.resolve(), *root.resolve().parents):
            raise DataError(
                f"class folder {shown(folder)} is a link to {shown(folder.resolve())}, which holds it; expected images"
            )
        files = list(_image_files(folder))
        if not files:
            raise DataError(
                f"class folder {shown(folder)} holds no images; expected files like {', '.join(SUFFIXES[:4])}"
            )
        entries += [_Entry(path, label) for path in sorted(files)]
    return entries, [folder.name for folder in folders]


def _image_files(folder: Path) -> Iterator[Path]:
    """Regular files below a folder that are named as images are; what is hidden or a system's own is no image."""
    for place, folders, names in os.walk(folder):
        folders[:] = [name for name in folders if not _is_of_system(name)]
        for name in names:
            path = Path(place, name)
            if path.suffix.lower() in SUFFIXES and not name.startswith(".") and _is_regular(path):
                yield path


def _is_regular(path: Path) -> bool:
    try:
        return stat.S_ISREG(path.stat().st_mode)
    except OSError:
        return True  # said when it is read


def _digest(entries: Sequence[_Entry], threads: int | None, progress: Progress) -> None:
    """Note a hash of the content of each file; of one that cannot be read, of its name."""

    def one(entry: _Entry) -> None:
        try:
            content = entry.path.read_bytes()
        except OSError:
            content = os.fsencode(entry.path.name)
        entry.digest = blake2b(content, digest_size=16).digest()

    progress = progress if len(entries) >= _MANY else Progress(quiet=True)
    with (
        progress.stage("look through images", len(entries), unit="image") as stage,
        ThreadPoolExecutor(threads or os.cpu_count() or 1) as pool,
    ):
        for start in range(0, len(entries), _CHUNK):
            part = entries[start : start + _CHUNK]
            list(pool.map(one, part))
            stage.advance(len(part))


def _read(path: Path) -> np.ndarray:
    """One image as uint8 ``[H, W, 3]``.

    Raises:
        DataError: The file is no image, or is damaged, or has more than 8 bits per channel.
    """
    try:
        with Image.open(path) as image:
            if image.mode in _DEEP_MODES:
                raise DataError(
                    f"cannot read image {shown(path)}: it has mode {image.mode}, expected 8 bits per channel"
                )
            return np.asarray(image.convert("RGB"))
    except DataError:
        raise
    except Exception as error:  # PIL raises nearly anything on damaged files
        reason = "not an image" if isinstance(error, UnidentifiedImageError) else str(error) or type(error).__name__
        raise DataError(
            f"cannot read image {shown(path)}: {shown(reason)}; --skip-bad leaves such images out"
        ) from error


def _decode(paths: list[Path], skip_bad: bool, threads: int | None, stage: Stage) -> tuple[np.ndarray, set[int]]:
    """Decode all images into one array. Returns it with the indices of the images that could not be read."""
    first = _first_readable(paths, skip_bad)
    size = _read(paths[first]).shape
    _check_memory(len(paths), size)
    images = np.zeros((len(paths), *size), dtype=np.uint8)
    bad: set[int] = set()

    def decode(start: int) -> list[tuple[int, DataError | tuple[int, ...]]]:
        problems: list[tuple[int, DataError | tuple[int, ...]]] = []
        for index in range(start, min(start + _CHUNK, len(paths))):
            try:
                image = _read(paths[index])
            except DataError as error:
                problems.append((index, error))
                continue
            if image.shape == size:
                images[index] = image
            else:
                problems.append((index, image.shape))
        return problems

    with ThreadPoolExecutor(threads or os.cpu_count() or 1) as pool:
        tasks = [pool.submit(decode, start) for start in range(0, len(paths), _CHUNK)]
        try:
            # In order, so that the image named is the first one and not the first that a thread came across.
            for number, task in enumerate(tasks):
                for index, problem in task.result():
                    if not isinstance(problem, DataError):
                        raise _size_error(paths[first], size, paths[index], problem)
                    if not skip_bad:
                        raise problem
                    bad.add(index)
                stage.advance(min(_CHUNK, len(paths) - number * _CHUNK))
        except BaseException:
            pool.shutdown(cancel_futures=True)
            raise
    return images, bad


def _first_readable(paths: list[Path], skip_bad: bool) -> int:
    for index, path in enumerate(paths):
        try:
            _read(path)
        except DataError:
            if not skip_bad:
                raise
        else:
            return index
    raise DataError(f"none of the {len(paths)} images can be read, {shown(paths[0])} is the first of them")


def _size_error(first: Path, size: tuple[int, ...], other: Path, other_size: tuple[int, ...]) -> DataError:
    return DataError(
        f"images differ in size: {shown(other)} is {other_size[1]}x{other_size[0]}, but {shown(first)} is "
        f"{size[1]}x{size[0]} (width x height); expected one size for all"
    )


def _check_memory(count: int, size: tuple[int, ...]) -> None:
    needed = count * size[0] * size[1] * size[2]
    total = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    if needed > total:
        raise DataError(
            f"{count} images of {size[1]}x{size[0]} pixels need {needed / 2**30:.1f} GiB of memory, but this machine "
            f"has {total / 2**30:.1f} GiB; expected smaller or fewer images"
        )


def _check_classes_left(labels: list[int], classes: list[str], root: Path) -> None:
    left = set(labels)
    for label, name in enumerate(classes):
        if label not in left:
            raise DataError(f"no readable train image of class {shown(name)} is left in {shown(root)}")
