"""Image folders, archives of them and tables of labels: split, and decoded by a thread pool into one array."""

from __future__ import annotations

import os
import warnings
from collections import Counter
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from hashlib import blake2b
from pathlib import Path

import numpy as np
import torch

from nasfast.data.image_file import ImageFile, Pixels, Size, most_bad, read_image, size_of
from nasfast.data.image_size import choose_size, one_size, size_text
from nasfast.data.layout import find_images
from nasfast.data.tree import Entry, Layout
from nasfast.errors import DataError
from nasfast.utils.progress import Progress, Stage
from nasfast.utils.shown import shown

_CHUNK = 256  # images per task at most: large enough that the pool costs nothing beside decoding
_CHUNKS_PER_THREAD = 8  # of few images
_MANY = 10_000  # images: to look through fewer takes no time


@dataclass
class FolderImages:
    """Decoded images uint8 ``[N, H, W, 3]`` with their labels; the first ``train_count`` are the train set.

    ``repeated`` counts test images whose files are also in the train set, byte for byte. ``notes`` says what was done
    to images and what was left out.
    """

    images: np.ndarray
    labels: list[int]
    train_count: int
    classes: list[str]
    skipped: list[str]
    test_files: list[str]
    repeated: int
    notes: list[str]


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
    root: Path,
    skip_bad: bool,
    test_fraction: float,
    seed: int,
    threads: int | None,
    progress: Progress,
    size: Size | None = None,
) -> FolderImages:
    """Find, split and decode; see :func:`nasfast.data.load_data`. ``size``: None lets the images decide."""
    layout = find_images(root, skip_bad)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # PIL's of photos larger than most, and of metadata that nothing here reads
        sizes = _look_through(layout.train + (layout.test or []), threads, progress)
        train, test = _halves(layout, root, test_fraction, seed)
        entries = train + test
        chosen = size or choose_size([found for found in sizes if found is not None] or [(1, 1)])
        with progress.stage("read images", len(entries), unit="image") as stage:
            decoded = _decode([entry.path for entry in entries], chosen, skip_bad, threads, stage)
    known = {entry.digest for entry in train}
    keep = [index for index in range(len(entries)) if index not in decoded.bad]
    train_count = sum(index < len(train) for index in keep)
    labels = [entries[index].label for index in keep]
    _check_classes_left(labels[:train_count], layout.classes, root)
    if train_count == len(keep):
        raise DataError(f"no readable test image is left in {shown(root)}")
    return FolderImages(
        _without(decoded.images, keep),
        labels,
        train_count,
        layout.classes,
        [str(entries[index].path) for index in sorted(decoded.bad)],
        [str(entries[index].path) for index in keep[train_count:]],
        sum(entries[index].digest in known for index in keep[train_count:]),
        layout.notes + _size_notes(sizes, chosen, size is None) + decoded.said(),
    )


def _halves(layout: Layout, root: Path, test_fraction: float, seed: int) -> tuple[list[Entry], list[Entry]]:
    """Train and test files; split where there is no test set."""
    if layout.test is not None:
        return layout.train, layout.test
    train = layout.train
    labels, digests = [entry.label for entry in train], [entry.digest for entry in train]
    counts = Counter(labels)
    for label, name in enumerate(layout.classes):
        if counts[label] < 2:
            raise DataError(f"class {shown(name)} of {shown(root)} holds one image; splitting off a test set needs two")
    train_index, test_index = split_by_content(labels, digests, test_fraction, seed)
    return [train[i] for i in train_index], [train[i] for i in test_index]


def _look_through(entries: Sequence[Entry], threads: int | None, progress: Progress) -> list[Size | None]:
    """Note a hash of the content of each file, of one that cannot be read of its name; and find their sizes."""

    def one(entry: Entry) -> Size | None:
        try:
            content = entry.path.read_bytes()
        except OSError:
            entry.digest = blake2b(os.fsencode(entry.path.name), digest_size=16).digest()
            return None
        entry.digest = blake2b(content, digest_size=16).digest()
        return size_of(content)

    progress = progress if len(entries) >= _MANY else Progress(quiet=True)
    sizes: list[Size | None] = []
    with (
        progress.stage("look through images", len(entries), unit="image") as stage,
        ThreadPoolExecutor(threads or os.cpu_count() or 1) as pool,
    ):
        for start in range(0, len(entries), _CHUNK):
            part = entries[start : start + _CHUNK]
            sizes += pool.map(one, part)
            stage.advance(len(part))
    return sizes


def _size_notes(sizes: Sequence[Size | None], size: Size | None, chosen: bool) -> list[str]:
    """What is said of images that are scaled."""
    known = [found for found in sizes if found is not None]
    if size is None or not known or all(found == size for found in known):
        return []
    smallest, largest = min(known, key=lambda s: s[0] * s[1]), max(known, key=lambda s: s[0] * s[1])
    found = size_text(smallest) if one_size(known) else f"{size_text(smallest)} to {size_text(largest)}"
    other = "; --image-size gives another" if chosen else ""
    return [f"images of {found} pixels are scaled and cropped to {size_text(size)}{other}"]


@dataclass
class _Decoded:
    """Images of all paths in one array, those that could not be read, and how many have which note."""

    images: np.ndarray
    bad: set[int]
    notes: Counter[str]

    def said(self) -> list[str]:
        return [f"{count} image{'s' * (count > 1)} {note}" for note, count in sorted(self.notes.items())]


_Problem = tuple[int, DataError | Size]


def _decode(paths: list[ImageFile], size: Size | None, skip_bad: bool, threads: int | None, stage: Stage) -> _Decoded:
    """Decode all images into one array."""
    allowed = most_bad(len(paths), skip_bad)
    first, shape = _first_readable(paths, size, allowed)
    _check_memory(len(paths), shape)
    found = _Decoded(np.zeros((len(paths), *shape, 3), dtype=np.uint8), set(), Counter())
    workers = threads or os.cpu_count() or 1
    chunk = max(1, min(_CHUNK, len(paths) // (workers * _CHUNKS_PER_THREAD)))

    def decode(start: int) -> tuple[list[_Problem], list[str]]:
        problems: list[_Problem] = []
        notes: list[str] = []
        for index in range(start, min(start + chunk, len(paths))):
            try:
                pixels = read_image(paths[index], size)
            except DataError as error:
                problems.append((index, error))
                continue
            if pixels.image.shape[:2] == shape:
                found.images[index] = pixels.image
                notes += pixels.notes
            else:
                problems.append((index, _size(pixels)))
        return problems, notes

    with ThreadPoolExecutor(workers) as pool:
        tasks = [pool.submit(decode, start) for start in range(0, len(paths), chunk)]
        try:
            # In order, so that the image named is the first one and not the first that a thread came across.
            first_error: DataError | None = None
            for number, task in enumerate(tasks):
                problems, notes = task.result()
                for index, problem in problems:
                    if not isinstance(problem, DataError):
                        raise _size_error(paths[first], shape, paths[index], problem)
                    first_error = first_error or problem
                    found.bad.add(index)
                    if len(found.bad) > allowed:
                        raise first_error
                found.notes.update(notes)
                stage.advance(min(chunk, len(paths) - number * chunk))
        except BaseException:
            pool.shutdown(cancel_futures=True)
            raise
    return found


def _size(pixels: Pixels) -> Size:
    return pixels.image.shape[0], pixels.image.shape[1]


def _first_readable(paths: list[ImageFile], size: Size | None, allowed: int) -> tuple[int, Size]:
    """Which image it is, and its size; the error of the first image where more than ``allowed`` before it are bad."""
    first_error: DataError | None = None
    for index, path in enumerate(paths):
        try:
            return index, _size(read_image(path, size))
        except DataError as error:
            first_error = first_error or error
            if index + 1 > allowed:
                raise first_error from None
    raise DataError(f"none of the {len(paths)} images can be read, {shown(paths[0])} is the first of them")


def _without(images: np.ndarray, keep: list[int]) -> np.ndarray:
    """Those to keep, moved together where they lie."""
    for place, index in enumerate(keep):
        if place != index:
            images[place] = images[index]
    return images[: len(keep)]


def _size_error(first: ImageFile, size: Size, other: ImageFile, other_size: Size) -> DataError:
    return DataError(
        f"images differ in size from what their files say: {shown(other)} is {size_text(other_size)}, but "
        f"{shown(first)} is {size_text(size)} (width x height); name a size with --image-size"
    )


def _check_memory(count: int, size: Size) -> None:
    needed = count * size[0] * size[1] * 3
    total = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    if needed > total:
        raise DataError(
            f"{count} images of {size_text(size)} pixels need {needed / 2**30:.1f} GiB of memory, but this machine "
            f"has {total / 2**30:.1f} GiB; expected smaller or fewer images (--image-size)"
        )


def _check_classes_left(labels: list[int], classes: list[str], root: Path) -> None:
    left = set(labels)
    for label, name in enumerate(classes):
        if label not in left:
            raise DataError(f"no readable train image of class {shown(name)} is left in {shown(root)}")
