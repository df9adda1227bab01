"""Which files of a folder are images of which class, for training and for testing."""

from __future__ import annotations

import os
import stat
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from nasfast.data.image_file import SUFFIXES
from nasfast.errors import DataError
from nasfast.utils.shown import shown
from nasfast.utils.suggest import did_you_mean

_TRAIN = ("train", "training")
_TEST = ("test", "testing", "val", "valid", "validation", "dev", "eval")
"""Names of the test set in any case; where there are several, the first of these is meant."""

_SYSTEM_NAMES = ("@eaDir", "__MACOSX", "#recycle", "$RECYCLE.BIN", "lost+found")
"""Folders in which file systems, archives and network storage keep copies; hidden ones are left out too."""

_OTHER_TASKS = ({"images", "labels"}, {"images", "masks"}, {"images", "annotations"}, {"imgs", "masks"})
"""Folders of data sets that label parts of images, in small letters."""


@dataclass
class Entry:
    """An image file: its class by number, and once it was looked at a hash of its content."""

    path: Path
    label: int
    digest: bytes = b""


@dataclass
class Layout:
    """What a folder holds.

    Attributes:
        classes: Names, sorted.
        train: Images to learn from, sorted by class and path; all of them where there is no test set.
        test: None where the folder has no test set.
        notes: What was left out, for people.
    """

    classes: list[str]
    train: list[Entry]
    test: list[Entry] | None
    notes: list[str]


@dataclass
class _LeftOut:
    """Files that are no images by their names or kinds."""

    suffixes: Counter[str] = field(default_factory=Counter)
    special: int = 0

    def notes(self) -> list[str]:
        found = []
        if self.suffixes:
            kinds = ", ".join(
                f"{name or 'without an ending'} ({count})" for name, count in self.suffixes.most_common(5)
            )
            more = "" if len(self.suffixes) <= 5 else " ..."
            found.append(f"left out {_files(self.suffixes.total())} whose names are not those of images: {kinds}{more}")
        if self.special:
            found.append(f"left out {_files(self.special)} of special kinds: pipes, devices, links to nowhere")
        return found


def find_images(root: Path) -> Layout:
    """Look for a train and a test set of one folder per class, or for the classes in ``root`` itself.

    Raises:
        DataError: The folder is something else.
    """
    if not root.exists():
        close = did_you_mean(root.name, ("digits", "cifar10"))
        raise DataError(
            f"data folder {shown(root)} does not exist; expected digits, cifar10 or the path of an image folder{close}"
        )
    if not root.is_dir():
        raise DataError(f"{shown(root)} is a file; expected a folder that holds one folder of images per class")
    folders, left = _subfolders(root), _LeftOut()
    halves = {"train": _named(folders, _TRAIN), "test": _named(folders, _TEST)}
    if not halves["train"]:
        if halves["test"]:
            raise DataError(
                f"{shown(halves['test'][0])} looks like a test set, but {shown(root)} holds no folder named train "
                "beside it"
            )
        if folders and all(name.lower() in _TRAIN + _TEST for name in folders):
            raise DataError(
                f"{shown(root)} holds {' and '.join(folders)} without class folders in them; expected one folder "
                "of images per class in each"
            )
        train, classes = _scan(root, left)
        return Layout(classes, train, None, left.notes())
    train, classes = _scan(_only(halves["train"]), left)
    if not halves["test"]:
        return Layout(classes, train, None, left.notes() + _unused(folders, [halves["train"][0]]))
    first = halves["test"][0].name.lower()
    test_root = _only([folder for folder in halves["test"] if folder.name.lower() == first])
    test, test_classes = _scan(test_root, left)
    for name in sorted(set(classes) ^ set(test_classes)):
        here, there = (halves["train"][0], test_root) if name in classes else (test_root, halves["train"][0])
        raise DataError(
            f"class {shown(name)} is in {shown(here)} but not in {shown(there)}; "
            "expected the same class folders in both"
        )
    return Layout(classes, train, test, left.notes() + _unused(folders, [halves["train"][0], test_root]))


def is_of_system(name: str) -> bool:
    """Whether a file or folder is hidden or a system's own."""
    return name.startswith(".") or name in _SYSTEM_NAMES


def image_files(folder: Path) -> list[Path]:
    """Regular files below a folder that are named as images are, sorted; hidden ones and those of systems are none."""
    return sorted(_image_files(folder, _LeftOut()))


def _named(folders: Mapping[str, Path], names: tuple[str, ...]) -> list[Path]:
    """Folders of these names in any case, in the order of the names; one without folders in it may be a class."""
    found = [path for name, path in folders.items() if name.lower() in names and _subfolders(path)]
    return sorted(found, key=lambda path: names.index(path.name.lower()))


def _only(folders: list[Path]) -> Path:
    if len(folders) > 1:
        raise DataError(
            f"{shown(folders[0].parent)} holds both {folders[0].name} and {folders[1].name}; expected one of them"
        )
    return folders[0]


def _unused(folders: Mapping[str, Path], used: list[Path]) -> list[str]:
    others = sorted(name for name, path in folders.items() if path not in used)
    if not others:
        return []
    return [f"{', '.join(path.name for path in used)} are read; left out beside them: {', '.join(others[:5])}"]


def _subfolders(folder: Path) -> dict[str, Path]:
    try:
        found = sorted(path for path in folder.iterdir() if path.is_dir() and not is_of_system(path.name))
    except OSError as error:
        raise DataError(f"cannot read data folder {shown(folder)}: {error.strerror}") from error
    return {path.name: path for path in found}


def _scan(root: Path, left: _LeftOut) -> tuple[list[Entry], list[str]]:
    """All images below the class folders of ``root``, sorted, with the classes numbered by sorted name."""
    folders = _subfolders(root)
    if not folders:
        loose = any(path.suffix.lower() in SUFFIXES for path in root.iterdir())
        found = "images but no class folder" if loose else "no images"
        raise DataError(f"data folder {shown(root)} holds {found}; expected one folder of images per class")
    if {name.lower() for name in folders} in _OTHER_TASKS:
        raise DataError(
            f"{shown(root)} holds {' and '.join(folders)}, as data sets of parts of images do; expected one folder "
            "of images per class"
        )
    entries: list[Entry] = []
    for label, folder in enumerate(folders.values()):
        if folder.is_symlink() and folder.resolve() in (root.resolve(), *root.resolve().parents):
            raise DataError(
                f"class folder {shown(folder)} is a link to {shown(folder.resolve())}, which holds it; expected images"
            )
        files = _image_files(folder, left)
        if not files:
            raise DataError(
                f"class folder {shown(folder)} holds no images; expected files like {', '.join(SUFFIXES[:4])}"
            )
        entries += [Entry(path, label) for path in sorted(files)]
    if len(folders) < 2:
        name = next(iter(folders))
        raise DataError(f"{shown(root)} holds one class ({shown(name)}); expected at least two class folders")
    return entries, list(folders)


def _image_files(folder: Path, left: _LeftOut) -> list[Path]:
    found = []
    for place, folders, names in os.walk(folder):
        folders[:] = [name for name in folders if not is_of_system(name)]
        for path in (Path(place, name) for name in names if not name.startswith(".")):
            if not _is_regular(path):
                left.special += 1
            elif path.suffix.lower() in SUFFIXES:
                found.append(path)
            else:
                left.suffixes[path.suffix.lower()] += 1
    return found


def _is_regular(path: Path) -> bool:
    try:
        return stat.S_ISREG(path.stat().st_mode)
    except OSError:
        return False


def _files(count: int) -> str:
    return f"{count} file{'s' * (count > 1)}"
