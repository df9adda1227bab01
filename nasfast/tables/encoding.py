"""Text files as UTF-8, whatever they are encoded in."""

from __future__ import annotations

import codecs
import re
from collections.abc import Iterator
from itertools import chain
from pathlib import Path

from nasfast.errors import DataError
from nasfast.tables.data import say
from nasfast.tables.files import EXPECTED, read_chunks
from nasfast.utils.shown import shown

_MARKS = (
    (codecs.BOM_UTF8, "utf-8"),
    (codecs.BOM_UTF32_LE, "utf-32-le"),
    (codecs.BOM_UTF32_BE, "utf-32-be"),
    (codecs.BOM_UTF16_LE, "utf-16-le"),
    (codecs.BOM_UTF16_BE, "utf-16-be"),
)
_BEFORE, _AFTER = 1 << 12, 1 << 16  # bytes around the first one that is no UTF-8, from which the encoding is guessed
_ENCODINGS = [
    *("cp1252", "cp1250", "cp1251", "cp1253", "cp1254", "cp1255", "cp1256", "cp1257", "koi8_r", "cp437", "cp850"),
    *("mac_roman", "cp932", "euc_jp", "gb18030", "big5", "cp949"),
]
_WIDE_SHARE = 0.3  # of every second byte: text of Latin letters in UTF-16 has more zeros there
_WORD = re.compile(r"[^\W\d_]+")


def read_utf8(path: Path, notes: list[str]) -> Iterator[bytes]:
    """The text of a file in UTF-8 without a byte order mark; ``notes`` gets what was found.

    Raises:
        DataError: It cannot be read, or is no text.
    """
    chunks = read_chunks(path)
    first = next(chunks, b"")
    mark, encoding = next(((mark, name) for mark, name in _MARKS if first.startswith(mark)), (b"", ""))
    if mark:
        say(notes, f"{shown(path)}: a byte order mark ({encoding})")
    chunks = chain([first[len(mark) :]], chunks)
    encoding = encoding or _wide_encoding(path, first) or "utf-8"
    if encoding == "utf-8":
        yield from _checked(path, chunks, notes)
        return
    if not mark:
        say(notes, f"{shown(path)}: read as {encoding}")
    yield from _decoded(chunks, encoding)


def _wide_encoding(path: Path, head: bytes) -> str:
    """UTF-16 without a mark, told by its zeros; "" where there are none."""
    if b"\0" not in head:
        return ""
    even, odd = (head[start::2].count(0) / max(1, len(head) // 2) for start in (0, 1))
    if odd > _WIDE_SHARE > even:
        return "utf-16-le"
    if even > _WIDE_SHARE > odd:
        return "utf-16-be"
    raise DataError(f"{shown(path)} holds bytes that are no text: expected {EXPECTED}")


def _decoded(chunks: Iterator[bytes], encoding: str) -> Iterator[bytes]:
    decoder = codecs.getincrementaldecoder(encoding)("replace")
    for chunk in chunks:
        yield decoder.decode(chunk).encode("utf-8", "replace")
    yield decoder.decode(b"", True).encode("utf-8", "replace")


def _checked(path: Path, chunks: Iterator[bytes], notes: list[str]) -> Iterator[bytes]:
    """Chunks of UTF-8 as they are, up to one that is none: from there on in the encoding that it seems to have."""
    rest, lines, ascii_only = b"", 1, True
    for chunk in chunks:
        data = rest + chunk
        rest = b""
        if not data.isascii():
            try:
                _, used = codecs.utf_8_decode(data, "strict", False)
            except UnicodeDecodeError as error:
                good, bad = data[: error.start], data[error.start :]
                yield good
                place = f"{shown(path)}: line {lines + good.count(10)}"
                sample = good[-_BEFORE:] + bad[:_AFTER]
                known = ascii_only and good.isascii()
                yield from _otherwise(path, place, chain([bad], chunks), _guess(sample) if known else "", notes)
                return
            data, rest = data[:used], data[used:]
            ascii_only = False
        lines += data.count(10)
        yield data
    if rest:
        yield rest.decode("utf-8", "replace").encode()


def _otherwise(path: Path, place: str, chunks: Iterator[bytes], encoding: str, notes: list[str]) -> Iterator[bytes]:
    if encoding:
        say(notes, f"{shown(path)}: not UTF-8, read as {encoding}")
    else:
        say(notes, f"{place} and maybe others hold bytes that are no UTF-8; they are read as \N{REPLACEMENT CHARACTER}")
    yield from _decoded(chunks, encoding or "utf-8")


def _guess(sample: bytes) -> str:
    """The likely encoding of text that is no UTF-8."""
    western = sample.decode("cp1252", "replace")
    words = [word for word in _WORD.findall(western) if not word.isascii()]
    letters = "".join(words)
    signs = [c for c in western if not c.isascii() and not c.isalpha()]
    if letters and sum(map(str.isascii, letters)) >= len(letters) / 2 and len(signs) <= len(words):
        return "cp1252"  # words of Latin letters with an accent here and there
    from charset_normalizer import from_bytes

    best = from_bytes(sample, cp_isolation=_ENCODINGS).best()
    return best.encoding if best is not None else "cp1252"
