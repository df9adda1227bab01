"""The members of a tar file, compressed or not."""

from __future__ import annotations

import bz2
import gzip
import lzma
import os
import tarfile
import tempfile
import weakref
import zlib
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import IO, Any

from nasfast.data.unpacking import Member, most_bytes, too_large
from nasfast.errors import DataError
from nasfast.utils.shown import shown

TAR_ENDINGS = (".tar", ".tar.gz", ".tgz", ".tar.bz2", ".tbz2", ".tar.xz", ".txz")

_COMPRESSED: dict[bytes, Any] = {
    b"\x1f\x8b": gzip.open,
    b"BZh": bz2.open,
    b"\xfd7zXZ\0": lzma.open,
}
"""By how files begin, since their names may say otherwise."""

_CHUNK = 2**20


def tar_members(path: Path) -> list[Member]:
    """What the file holds, in its order.

    Raises:
        DataError: It is damaged, or unpacks to too much.
    """
    file = _plain(path)
    try:
        with tarfile.open(fileobj=file, mode="r:") as archive:
            members = list(_walk(archive))
            end = archive.offset
        file.seek(end)
        mark = file.read(tarfile.BLOCKSIZE)
    except (tarfile.TarError, OSError, ValueError, EOFError, RecursionError) as error:
        file.close()
        raise DataError(f"{shown(path)} cannot be read as a tar file: {shown(error)}; expected a whole one") from error
    if mark != bytes(tarfile.BLOCKSIZE):  # tarfile takes damage between members for the end
        file.close()
        raise DataError(f"{shown(path)} is cut or damaged after {len(members)} members; expected a whole tar file")
    content = _Content(file)
    found: dict[str, Member] = {}
    return [_member(info, content, found) for info in members]


def _walk(archive: tarfile.TarFile) -> Iterator[tarfile.TarInfo]:
    """All members; ReadError where one has a negative size, by which tarfile goes round in circles."""
    start = -1
    while (info := archive.next()) is not None:
        if info.size < 0 or archive.offset <= start:
            raise tarfile.ReadError("a member has a negative size")
        start = archive.offset
        yield info


class _Content:
    """An open file that any thread may read anywhere; closed when nobody can read it any more."""

    def __init__(self, file: IO[bytes]) -> None:
        self._handle = file.fileno()
        weakref.finalize(self, file.close)

    def read(self, start: int, size: int) -> bytes:
        content = os.pread(self._handle, size, start)
        if len(content) != size:
            raise OSError("the archive ends in the middle of it")
        return content


def _member(info: tarfile.TarInfo, content: _Content, found: dict[str, Member]) -> Member:
    if info.isdir():
        return Member(info.name, folder=True)
    if info.islnk() and info.linkname in found:  # a second name of a file before
        earlier = found[info.linkname]
        member = Member(info.name, earlier.size, read=earlier.read)
    elif info.isreg():
        member = Member(info.name, info.size, read=lambda: _read(info, content))
    else:
        return Member(info.name)
    found[info.name] = member
    return member


def _read(info: tarfile.TarInfo, content: _Content) -> bytes:
    if not info.issparse():
        return content.read(info.offset_data, info.size)
    whole, start = bytearray(info.size), info.offset_data
    parts: Any = info.sparse
    for offset, size in parts:
        whole[offset : offset + size] = content.read(start, size)
        start += size
    return bytes(whole)


def _plain(path: Path) -> IO[bytes]:
    """The file, or what is compressed in it: in a temporary file without a name, since it is not read in order."""
    try:
        with open(path, "rb") as file:
            head = file.read(8)
        opener = next((opener for magic, opener in _COMPRESSED.items() if head.startswith(magic)), None)
        if opener is None:
            return open(path, "rb")
    except OSError as error:
        raise DataError(f"cannot read {shown(path)}: {error.strerror}") from error
    try:
        with ExitStack() as stack:
            plain = stack.enter_context(tempfile.TemporaryFile(prefix="nasfast-"))
            _unpack(path, opener, plain)
            stack.pop_all()
            return plain
    except OSError as error:
        raise DataError(
            f"{shown(path)} cannot be unpacked to a temporary file: {error.strerror}; expected room for it (TMPDIR "
            "names another folder), or a zip file, which is read as it is"
        ) from error


def _unpack(path: Path, opener: Callable[..., IO[bytes]], plain: IO[bytes]) -> None:
    """Write what is compressed; OSError where it finds no room."""
    most, size = most_bytes(path), 0
    with opener(path, "rb") as packed:
        while chunk := _read_packed(path, packed):
            size += len(chunk)
            if size > most:
                raise too_large(path, most)
            plain.write(chunk)
    plain.seek(0)


def _read_packed(path: Path, packed: IO[bytes]) -> bytes:
    try:
        return packed.read(_CHUNK)
    except (OSError, EOFError, zlib.error, lzma.LZMAError) as error:
        raise DataError(f"{shown(path)} is cut or damaged: {shown(error)}; expected a whole one") from error
