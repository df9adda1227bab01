"""How a delimited file is written: told from its first lines."""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import islice
from typing import Any

csv.field_size_limit(1 << 30)  # of a text that fills a field; the module's own limit is 131,072 characters

DELIMITERS = (",", ";", "\t", "|")
_UNUSED = "\x1f"  # parts nothing: of a file with one column
_RECORDS = 500
_SEPARATOR_LINE = re.compile(r"sep=(.)\r?\n?$")
_WORDS = {",": "commas", ";": "semicolons", "\t": "tabs", "|": "bars"}


@dataclass(frozen=True)
class Dialect:
    """What parts and encloses the fields of a file."""

    delimiter: str
    quote: str = '"'
    escape: str | None = None
    skip_space: bool = False

    def settings(self) -> dict[str, Any]:
        """For :func:`csv.reader`."""
        return {
            "delimiter": self.delimiter,
            "quotechar": self.quote,
            "escapechar": self.escape,
            "skipinitialspace": self.skip_space,
        }

    def differences(self) -> list[str]:
        """What is unlike the usual, in words."""
        parts = []
        if self.delimiter == _UNUSED:
            parts.append("one column")
        elif self.delimiter != ",":
            parts.append(f"columns parted by {_WORDS.get(self.delimiter, repr(self.delimiter))}")
        if self.quote != '"':
            parts.append(f"{self.quote} for quotes")
        if self.escape:
            parts.append("quotes escaped by a backslash")
        return parts


@dataclass(frozen=True)
class Head:
    """The first lines of a file.

    Attributes:
        dialect: How it is written.
        header: Names of columns, as they stand there.
        header_lines: Lines up to the end of the header.
        header_bytes: Bytes of UTF-8 up to there.
        records: The first records behind it.
        trailing: Empty fields that every record has behind the last column.
    """

    dialect: Dialect
    header: list[str]
    header_lines: int
    header_bytes: int
    records: list[list[str]]
    trailing: int = 0


def read_head(text: str, whole: bool) -> Head:
    """What the first lines of a file tell; ``whole`` says that there are no others."""
    lines = io.StringIO(text, newline="").readline()
    separator = _SEPARATOR_LINE.match(lines)
    if separator:
        return _with_dialect(text, whole, Dialect(separator[1]), lines)
    return _with_dialect(text, whole, _best(text, whole), "")


def _with_dialect(text: str, whole: bool, dialect: Dialect, before: str) -> Head:
    rows = _records(text[len(before) :], whole, dialect)
    lines, header = next(rows, (0, []))
    records = [cells for _, cells in rows]
    lines += bool(before)
    size = sum(len(line.encode()) for line in islice(io.StringIO(text, newline=""), lines))
    if dialect.delimiter != _UNUSED and not dialect.escape and _all_quoted(header, "'"):
        return _with_dialect(text, whole, Dialect(dialect.delimiter, "'", None, dialect.skip_space), before)
    width, trailing = len(header), 0
    if records and all(len(cells) == width + 1 and not cells[-1] for cells in records):
        trailing = 1
    elif width > 1 and not header[-1].strip() and not any(any(cells[width - 1 :]) for cells in records):
        header, trailing = header[:-1], 1
    return Head(dialect, header, lines, size, records, trailing)


def _best(text: str, whole: bool) -> Dialect:
    """The dialect by which most records have as many fields as the header, and the header most."""
    escapes = [None, "\\"] if '\\"' in text else [None]
    spaces = [False, True] if re.search(r'[,;\t|] +["\']', text) else [False]
    best, best_score = None, (0.0, 0)
    for delimiter in DELIMITERS:
        for escape in escapes:
            for space in spaces:
                dialect = Dialect(delimiter, '"', escape, space)
                score = _score(text, whole, dialect)
                if score > best_score:
                    best, best_score = dialect, score
    if best is not None:
        return best
    return Dialect(_UNUSED)


def _score(text: str, whole: bool, dialect: Dialect) -> tuple[float, int]:
    rows = [cells for _, cells in _records(text, whole, dialect)]
    if not rows or len(rows[0]) < 2:
        return (0.0, 0)
    width = len(rows[0])
    fit = sum(len(cells) == width or (len(cells) == width + 1 and not cells[-1]) for cells in rows[1:])
    share = fit / (len(rows) - 1) if len(rows) > 1 else 1.0
    return (max(round(share, 2), 0.001), width)


def _records(text: str, whole: bool, dialect: Dialect) -> Iterator[tuple[int, list[str]]]:
    """The first records with the line on which each ends, but blank ones and one that is cut off."""
    reader = csv.reader(io.StringIO(text, newline=""), **dialect.settings())
    kept: tuple[int, list[str]] | None = None
    given = 0
    try:
        for cells in reader:
            if kept is not None:
                yield kept
                given += 1
                kept = None
            if given > _RECORDS:
                return
            if cells and (len(cells) > 1 or cells[0].strip()):
                kept = reader.line_num, cells
    except csv.Error:
        pass
    if kept is not None and (whole or given == 0):
        yield kept


def _all_quoted(cells: list[str], quote: str) -> bool:
    return bool(cells) and all(len(cell.strip()) > 1 and cell.strip()[0] == cell.strip()[-1] == quote for cell in cells)
