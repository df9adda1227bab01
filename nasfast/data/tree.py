"""Folders of images, on disk or in an archive: what is in them, what is left out, and which names mean which half."""

from __future__ import annotations

import os
import stat
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path, PurePath
from typing import Protocol

from nasfast.data.image_file import SUFFIXES, ImageFile
from nasfast.errors import DataError
from nasfast.utils.shown import shown

TRAIN = ("train", "training")
TEST = ("test", "testing", "val", "valid", "validation", "dev", "eval")
"""Names of the test set in any case; where there are several, the first of these is meant."""

_SYSTEM_NAMES = ("@eaDir", "__MACOSX", "#recycle", "$RECYCLE.BIN", "lost+found")
"""Folders in which file systems, archives and network storage keep copies; hidden ones are left out too."""


@dataclass
class Entry:
    """An image file: its class by number, and once it was looked at a hash of its content."""

    path: ImageFile
    label: int
    digest: bytes = b""


@dataclass
class Layout:
    """What a folder, an archive or a table of labels holds.

    Attributes:
        classes: Names, in their order.
        train: Images to learn from, sorted by class and path; all of them where there is no test set.
        test: None where there is no test set.
        notes: What was left out, for people.
    """

    classes: list[str]
    train: list[Entry]
    test: list[Entry] | None
    notes: list[str]


@dataclass
class LeftOut:
    """Files that are no images by their names or kinds."""

    suffixes: Counter[str] = field(default_factory=Counter)
    special: int = 0

    def notes(self) -> list[str]:
        """What is said of them."""
        found = []
        if self.suffixes:
            kinds = ", ".join(
                f"{shown(name) or 'without an ending'} ({count})" for name, count in self.suffixes.most_common(5)
            )
            more = "" if len(self.suffixes) <= 5 else " ..."
            found.append(f"left out {_files(self.suffixes.total())} whose names are not those of images: {kinds}{more}")
        if self.special:
            found.append(
                f"left out {_files(self.special)} of special kinds: pipes, devices, links to nowhere or in an archive"
            )
        return found

    def takes(self, file: str | PurePath, regular: bool) -> bool:
        """Whether a file is an image by its name and kind; one that is not is counted."""
        suffix = PurePath(file).suffix.lower()
        if not regular:
            self.special += 1
        elif suffix not in SUFFIXES:
            self.suffixes[suffix] += 1
        else:
            return True
        return False


class Folder(Protocol):
    """A folder that may hold images."""

    @property
    def name(self) -> str:
        """Its name alone."""

    def folders(self) -> Mapping[str, Folder]:
        """Those right in it by name, sorted, without hidden ones and those of systems."""

    def images(self, left: LeftOut) -> list[ImageFile]:
        """All below it that are named as images are, sorted by path; others are counted in ``left``."""

    def has_loose_images(self) -> bool:
        """Whether some lie right in it."""

    def check(self) -> None:
        """Raise DataError where it leads back to a folder that holds it."""


@dataclass(frozen=True)
class DiskFolder:
    """One of the file system."""

    path: Path

    def __str__(self) -> str:
        return str(self.path)

    @property
    def name(self) -> str:
        return self.path.name

    def folders(self) -> dict[str, DiskFolder]:
        try:
            found = sorted(path for path in self.path.iterdir() if path.is_dir() and not is_of_system(path.name))
        except OSError as error:
            raise DataError(f"cannot read data folder {shown(self.path)}: {error.strerror}") from error
        return {path.name: DiskFolder(path) for path in found}

    def images(self, left: LeftOut) -> list[ImageFile]:
        found: list[Path] = []
        for place, folders, names in os.walk(self.path):
            folders[:] = [name for name in folders if not is_of_system(name)]
            paths = (Path(place, name) for name in names if not name.startswith("."))
            found += [path for path in paths if left.takes(path, is_regular(path))]
        return [*sorted(found)]

    def has_loose_images(self) -> bool:
        return any(path.suffix.lower() in SUFFIXES for path in self.path.iterdir())

    def check(self) -> None:
        around = self.path.parent.resolve()
        if self.path.is_symlink() and self.path.resolve() in (around, *around.parents):
            raise DataError(
                f"class folder {shown(self)} is a link to {shown(self.path.resolve())}, which holds it; expected images"
            )


def is_of_system(name: str) -> bool:
    """Whether a file or folder is hidden or a system's own."""
    return name.startswith(".") or name in _SYSTEM_NAMES


def is_regular(path: Path) -> bool:
    """Whether it is a file with content, or a link to one."""
    try:
        return stat.S_ISREG(path.stat().st_mode)
    except OSError:
        return False


def _files(count: int) -> str:
    return f"{count} file{'s' * (count > 1)}"
