"""Checksums of files, so that no other values are read than were written."""

from __future__ import annotations

import hashlib
import io
import struct
from pathlib import Path

_MARK = b"nasfast-blake2b:"
_DIGEST = 16
_TRAILER = len(_MARK) + 2 * _DIGEST
_BLOCK = 1 << 20
_END = 22
"""Bytes of the end of a zip archive without a comment."""


def seal_zip(archive: io.BytesIO) -> io.BytesIO:
    """Add the checksum of a zip archive to it, as its comment, which other readers skip; returns it."""
    archive.seek(-_END, io.SEEK_END)
    end = archive.read()
    if not end.startswith(b"PK\5\6") or not end.endswith(b"\0\0"):
        raise ValueError("expected a zip archive without a comment")
    archive.seek(-2, io.SEEK_END)
    archive.write(struct.pack("<H", _TRAILER))
    digest = hashlib.blake2b(archive.getbuffer(), digest_size=_DIGEST).hexdigest()
    archive.write(_MARK + digest.encode())
    return archive


def is_damaged(path: Path) -> bool:
    """Whether a file has a checksum (:func:`seal_zip`) that is not that of its content.

    Raises:
        OSError: It cannot be read.
    """
    size = path.stat().st_size
    if size < _TRAILER:
        return False
    digest, left = hashlib.blake2b(digest_size=_DIGEST), size - _TRAILER
    with path.open("rb") as file:
        while left and (block := file.read(min(left, _BLOCK))):
            digest.update(block)
            left -= len(block)
        trailer = file.read()
        file.seek(-min(size, _TRAILER + _END), io.SEEK_END)
        cut = not trailer.startswith(_MARK) and _MARK in file.read()
    return cut or (trailer.startswith(_MARK) and trailer[len(_MARK) :] != digest.hexdigest().encode())


def is_sealed(path: Path) -> bool:
    """Whether a file ends with a checksum (:func:`seal_zip`), whatever that says."""
    with path.open("rb") as file:
        file.seek(max(0, path.stat().st_size - _TRAILER))
        return file.read().startswith(_MARK)
