"""A table of files and labels, as CSV: which columns it has, and which images of which class it names."""

from __future__ import annotations

import functools
import os
import re
from collections import Counter
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from nasfast.data.image_file import ImageFile, most_bad
from nasfast.data.label_table import LabelRow, read_rows
from nasfast.data.tree import TEST, TRAIN, Entry, Layout, LeftOut, is_regular
from nasfast.errors import DataError
from nasfast.utils.shown import shown

TABLES = (".csv", ".tsv")
"""Endings of the names of tables, in any case."""


@dataclass(frozen=True)
class _Image:
    """A row whose file is there; ``real`` is the same for all names of a file."""

    row: LabelRow
    path: Path
    real: str


def is_label_file(path: Path) -> bool:
    """Whether a file is a table by its name."""
    return path.suffix.lower() in TABLES


def read_labels(table: Path, skip_bad: bool) -> Layout:
    """The images that a table names.

    Args:
        skip_bad: Leave out any number of rows without a label or whose files are not there.

    Raises:
        DataError: It is no such table, or contradicts itself.
    """
    rows, left = read_rows(table, labelled=True), LeftOut()
    found, notes = _existing(table, rows, most_bad(len(rows), skip_bad), left)
    if not found:
        raise DataError(f"{shown(table)} names no image file that exists; expected names from its folder on")
    for name in sorted({row.label for row in rows if row.label} - {image.row.label for image in found}, key=_natural):
        raise DataError(
            f"no image of class {shown(name)} that {shown(table)} names exists; expected some of each class"
        )
    images, again = _once(table, found)
    train, test, unused = _halves(table, images)
    classes = sorted({image.row.label for image in train}, key=_natural)
    if len(classes) < 2:
        raise DataError(f"{shown(table)} names images of one class ({shown(classes[0])}); expected at least two")
    _check_same_classes(table, train, test)
    numbers = {name: number for number, name in enumerate(classes)}
    notes += left.notes() + again + unused
    return Layout(classes, _entries(train, numbers), None if test is None else _entries(test, numbers), notes)


def named_files(table: Path) -> list[ImageFile]:
    """All files that a table names, in its order; it needs no labels.

    Raises:
        DataError: It is no such table, or names files that are not there.
    """
    rows = read_rows(table, labelled=False)
    return [image.path for image in _existing(table, rows, 0, LeftOut(), labelled=False)[0]]


def _existing(
    table: Path, rows: Sequence[LabelRow], allowed: int, left: LeftOut, labelled: bool = True
) -> tuple[list[_Image], list[str]]:
    """Rows with a label and a file, and what is said of others; DataError where these are more than ``allowed``."""
    found, faults = [], []
    real_folder = functools.cache(os.path.realpath)
    for row in rows:
        path = _path(table, row.file)
        if path is None or path.is_dir():
            faults.append(f"line {row.line} names {shown(row.file) or 'no file'}, which is no file that exists")
        elif labelled and not row.label:
            faults.append(f"line {row.line} has no label for {shown(row.file)}")
        elif not is_regular(path):
            left.special += 1
        else:
            real = os.path.realpath(path) if path.is_symlink() else os.path.join(real_folder(path.parent), path.name)
            found.append(_Image(row, path, real))
    if len(faults) > allowed:
        count = f" ({len(faults)} such lines of {len(rows)})" if len(faults) > 1 else ""
        hint = "; --skip-bad leaves such lines out" if labelled else ""
        raise DataError(f"{shown(table)}: {faults[0]}{count}; expected image files, from the table's folder on{hint}")
    if not faults:
        return found, []
    return found, [f"left out {len(faults)} of {len(rows)} lines of {shown(table)}: {faults[0]}, the first of them"]


def _path(table: Path, file: str) -> Path | None:
    """Where the file lies, from the table's folder on; tables of Windows have backslashes."""
    for name in (file, file.replace("\\", "/")):
        path = table.parent / name
        with suppress(OSError, ValueError):
            path.lstat()
            return path
    return None


def _once(table: Path, images: Sequence[_Image]) -> tuple[list[_Image], list[str]]:
    """Each file of each part once, and what is said of more; DataError where one has two labels."""
    first: dict[str, _Image] = {}
    kept: dict[tuple[str, str | None], _Image] = {}
    for image in images:
        other = first.setdefault(image.real, image)
        if other.row.label != image.row.label:
            raise DataError(
                f"{shown(table)}: line {other.row.line} says {shown(image.row.file)} is {shown(other.row.label)}, "
                f"line {image.row.line} that it is {shown(image.row.label)}; expected one label for each file"
            )
        kept.setdefault((image.real, image.row.part), image)
    again = len(images) - len(kept)
    return list(kept.values()), [f"left out {again} line{'s' * (again > 1)} that name a file again"] if again else []


def _halves(table: Path, images: Sequence[_Image]) -> tuple[list[_Image], list[_Image] | None, list[str]]:
    """Images to train on and to test on, None where the table does not say, and what is said of others."""
    parts = Counter(image.row.part for image in images)
    if None in parts:
        return list(images), None, []
    for image in images:
        if image.row.part not in TRAIN + TEST:
            raise DataError(
                f"{shown(table)}: line {image.row.line} is for {shown(image.row.part) or 'nothing'}; expected "
                f"{', '.join(TRAIN)} or {', '.join(TEST)}"
            )
    train = [image for image in images if image.row.part in TRAIN]
    if not train:
        raise DataError(f"{shown(table)} names images to test on alone; expected lines for {TRAIN[0]}")
    word = next((word for word in TEST if word in parts), None)
    if word is None:
        return train, None, []
    others = [f"{other} ({parts[other]})" for other in TEST if other in parts and other != word]
    unused = [f"train and {word} are read; left out beside them: {', '.join(others)}"] if others else []
    return train, [image for image in images if image.row.part == word], unused


def _check_same_classes(table: Path, train: Sequence[_Image], test: Sequence[_Image] | None) -> None:
    if test is None:
        return
    learned, tested = {image.row.label for image in train}, {image.row.label for image in test}
    for name in sorted(learned ^ tested, key=_natural):
        here, there = ("train", "test") if name in learned else ("test", "train")
        raise DataError(
            f"{shown(table)}: class {shown(name)} has images to {here} but none to {there} on; expected the same "
            "classes in both"
        )


def _entries(images: Sequence[_Image], numbers: Mapping[str, int]) -> list[Entry]:
    """Sorted as those of a folder are, so that the order of the lines says nothing."""
    ordered = sorted(images, key=lambda image: (numbers[image.row.label], image.path))
    return [Entry(image.path, numbers[image.row.label]) for image in ordered]


def _natural(label: str) -> tuple[list[tuple[int, int, str]], str]:
    """So that 10 comes after 9: numbers, of any length, by their digits."""
    parts = [
        (0, len(part.lstrip("0")), part.lstrip("0")) if part[0] in "0123456789" else (1, 0, part)
        for part in re.findall(r"[0-9]+|[^0-9]+", label)
    ]
    return parts, label
