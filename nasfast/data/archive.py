"""A zip or tar file as a folder, whose images are read right from it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath

from nasfast.data.image_file import SUFFIXES, ImageFile
from nasfast.data.tar_file import TAR_ENDINGS, tar_members
from nasfast.data.tree import LeftOut, is_of_system
from nasfast.data.unpacking import Member, most_bytes, too_large
from nasfast.data.zip_file import zip_members
from nasfast.errors import DataError
from nasfast.utils.shown import shown

ARCHIVES = (".zip", *TAR_ENDINGS)
"""Endings of the names of archives, in any case."""

_DEEPEST, _LONGEST = 64, 4096  # folders, and characters: longer names would take memory out of all proportion


@dataclass(frozen=True)
class ArchivedImage:
    """A file of an archive."""

    place: str
    name: str
    read: Callable[[], bytes]

    def __str__(self) -> str:
        return self.place

    def read_bytes(self) -> bytes:
        """Its content; OSError where that cannot be read."""
        return self.read()


@dataclass(eq=False)
class ArchiveFolder:
    """A folder of an archive.

    Attributes:
        place: Path of the archive, and of the folder in it.
        name: Its name alone.
        inner: Folders in it by name.
        files: Files in it by name.
    """

    place: str
    name: str
    inner: dict[str, ArchiveFolder] = field(default_factory=dict)
    files: dict[str, Member] = field(default_factory=dict)

    def __str__(self) -> str:
        return self.place

    def folders(self) -> dict[str, ArchiveFolder]:
        return {name: self.inner[name] for name in sorted(self.inner)}

    def images(self, left: LeftOut) -> list[ImageFile]:
        found = []
        for parts, file in self._below():
            if left.takes(parts[-1], file.read is not None):
                assert file.read is not None
                found.append((parts, ArchivedImage("/".join((self.place, *parts)), parts[-1], file.read)))
        return [image for _, image in sorted(found, key=lambda one: one[0])]

    def has_loose_images(self) -> bool:
        return any(PurePosixPath(name).suffix.lower() in SUFFIXES for name in self.files)

    def check(self) -> None:
        pass  # links to folders are none

    def _below(self) -> Iterator[tuple[tuple[str, ...], Member]]:
        waiting: list[tuple[tuple[str, ...], ArchiveFolder]] = [((), self)]
        while waiting:  # no recursion: an archive can hold folders as deep as it likes
            parts, folder = waiting.pop()
            yield from (((*parts, name), file) for name, file in folder.files.items())
            waiting += [((*parts, name), inner) for name, inner in folder.inner.items()]


def is_archive(path: Path) -> bool:
    """Whether a file is an archive by its name."""
    return path.name.lower().endswith(ARCHIVES)


def open_archive(path: Path) -> ArchiveFolder:
    """What an archive holds, without what is hidden or of systems; it is read as long as its images are.

    Raises:
        DataError: It is damaged, encrypted or too large, or names in it are not those of files in a folder.
    """
    members = zip_members(path) if path.name.lower().endswith(".zip") else tar_members(path)
    most = most_bytes(path)
    if sum(member.size for member in members) > most:
        raise too_large(path, most)
    root = ArchiveFolder(str(path), path.name)
    for member in members:
        parts = _parts(path, member.name)
        if parts and not any(map(is_of_system, parts)):
            _put(root, parts, member, path)
    return root


def _parts(path: Path, name: str) -> tuple[str, ...]:
    parts = tuple(part for part in name.split("/") if part not in ("", "."))
    if name.startswith("/") or ".." in parts or (parts and parts[0].endswith(":")):
        raise DataError(f"{shown(path)} holds a member {shown(name)}, which leads out of it; expected names within it")
    if len(parts) > _DEEPEST or len(name) > _LONGEST:
        raise DataError(
            f"{shown(path)} holds a member {shown(name[:40])}..., {len(parts)} folders deep; expected names of at most "
            f"{_LONGEST} characters and {_DEEPEST} folders"
        )
    return parts


def _put(root: ArchiveFolder, parts: tuple[str, ...], member: Member, path: Path) -> None:
    folder = root
    for name in parts if member.folder else parts[:-1]:
        if name in folder.files:
            raise DataError(f"{shown(path)} holds {shown(folder.place)}/{shown(name)} both as a file and as a folder")
        if name not in folder.inner:
            folder.inner[name] = ArchiveFolder(f"{folder.place}/{name}", name)
        folder = folder.inner[name]
    if member.folder:
        return
    if parts[-1] in folder.inner:
        raise DataError(f"{shown(path)} holds {shown('/'.join(parts))} both as a file and as a folder")
    if parts[-1] in folder.files:
        raise DataError(f"{shown(path)} holds {shown('/'.join(parts))} twice; expected each name once")
    folder.files[parts[-1]] = member
