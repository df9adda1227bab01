"""Files of tables as they lie on disk: which format they have, and their bytes, unpacked."""

from __future__ import annotations

import gzip
import re
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO, Literal

from nasfast.errors import DataError
from nasfast.utils.shown import shown

EXPECTED = "a table: CSV, TSV, JSON lines or ARFF, packed by gzip or not, Parquet or Feather"

Format = Literal["delimited", "json", "arff", "parquet", "arrow"]

CHUNK = 1 << 20
_HEAD = 4096
_GZIP = b"\x1f\x8b"
_ARROW_STREAM = b"\xff\xff\xff\xff"
_FOREIGN = (
    (b"\x89PNG", "a PNG image"),
    (b"\xff\xd8\xff", "a JPEG image"),
    (b"GIF8", "a GIF image"),
    (b"BM", "a BMP image"),
    (b"RIFF", "an image or a sound"),
    (b"II*\0", "a TIFF image"),
    (b"MM\0*", "a TIFF image"),
    (b"%PDF", "a PDF"),
    (b"PK\x03\x04", "a ZIP archive or an Excel workbook"),
    (b"\xd0\xcf\x11\xe0", "an Excel workbook"),
    (b"SQLite format 3\0", "an SQLite database"),
    (b"\x89HDF", "an HDF5 file"),
    (b"\x93NUMPY", "a NumPy array"),
    (b"BZh", "packed by bzip2"),
    (b"\xfd7zXZ", "packed by xz"),
    (b"\x28\xb5\x2f\xfd", "packed by zstd"),
    (b"7z\xbc\xaf", "a 7z archive"),
    (b"Rar!", "a RAR archive"),
    (b"FEA1", "a Feather file of version 1"),
    (b"\x7fELF", "a program"),
)
_MARKUP = re.compile(rb"\s*<(!doctype|html|\?xml|svg|!--)", re.IGNORECASE)
_ARFF = re.compile(rb"\s*(?:%[^\r\n]*[\r\n]\s*)*+@relation\b", re.IGNORECASE)  # never goes back into comments
_JSON = re.compile(rb"\s*(\{|\[\s*[{\]])")


def find_format(path: Path) -> Format:
    """The format of a file, by what it begins with.

    Raises:
        DataError: It is missing, empty, a folder, or begins as no table does.
    """
    if path.is_dir():
        raise DataError(f"{shown(path)} is a folder: expected {EXPECTED}")
    if path.exists() and not path.is_file():
        raise DataError(f"{shown(path)} is no regular file: expected {EXPECTED}")
    head = next(read_chunks(path), b"")[:_HEAD]
    if not head:
        raise DataError(f"{shown(path)} is empty: expected {EXPECTED}")
    if head.startswith(b"PAR1"):
        return "parquet"
    if head.startswith((b"ARROW1", _ARROW_STREAM)):
        return "arrow"
    for magic, what in _FOREIGN:
        if head.startswith(magic) and (len(magic) > 2 or b"\0" in head):
            raise DataError(f"{shown(path)} is {what}: expected {EXPECTED}")
    text = head.removeprefix(b"\xef\xbb\xbf")
    if _MARKUP.match(text):
        raise DataError(f"{shown(path)} is HTML or XML: expected {EXPECTED}")
    if _ARFF.match(text) or path.name.lower().endswith((".arff", ".arff.gz")):
        return "arff"
    return "json" if _JSON.match(text) else "delimited"


def read_chunks(path: Path) -> Iterator[bytes]:
    """The bytes of a file, unpacked.

    Raises:
        DataError: It cannot be read, or is damaged.
    """
    try:
        with open(path, "rb") as raw:
            packed = raw.read(2) == _GZIP
            raw.seek(0)
            yield from _unpacked(path, raw) if packed else iter(lambda: raw.read(CHUNK), b"")
    except OSError as error:
        raise DataError(f"cannot read {shown(path)}: {error.strerror or error}") from error


def _unpacked(path: Path, raw: BinaryIO) -> Iterator[bytes]:
    try:
        with gzip.GzipFile(fileobj=raw) as file:
            yield from iter(lambda: file.read(CHUNK), b"")
    except (gzip.BadGzipFile, EOFError, zlib.error) as error:
        reason = str(error).rstrip(".")
        raise DataError(f"{shown(path)} is damaged or cut short ({reason}): expected a whole gzip file") from error
