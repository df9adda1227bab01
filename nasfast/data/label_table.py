"""The lines of a CSV file with a column of files and one of labels."""

from __future__ import annotations

import codecs
import csv
import io
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path, PurePath

from nasfast.data.image_file import SUFFIXES
from nasfast.errors import DataError
from nasfast.utils.shown import shown

FILES = ("path", "file", "filename", "image", "image_path", "file_name", "file_path", "filepath")
LABELS = ("label", "class", "category", "target")
PARTS = ("split", "set", "subset")
"""Names of columns, in any case."""

_DELIMITERS = (",", ";", "\t")
_LOOKED_AT = 1000  # lines from which it is told which column holds files

_Lines = list[tuple[int, list[str]]]


@dataclass(frozen=True)
class LabelRow:
    """A line: its number in the file, and what it says.

    Attributes:
        file: As it stands there.
        label: "" where it is missing.
        part: In small letters; None where the table has no such column.
    """

    line: int
    file: str
    label: str
    part: str | None


@dataclass(frozen=True)
class _Columns:
    file: int
    label: int | None
    part: int | None
    has_header: bool = True


def read_rows(table: Path, labelled: bool) -> list[LabelRow]:
    """All lines but blank ones.

    Args:
        labelled: Whether it has to have labels.

    Raises:
        DataError: It is no such table.
    """
    text = _text(table)
    lines, columns = _choose_delimiter(table, text, labelled)
    body = lines[1:] if columns.has_header else lines
    if not body:
        raise DataError(f"{shown(table)} names no images; expected a line for each")
    width = len(lines[0][1])
    for number, cells in body:
        if any(cells[width:]):
            raise DataError(
                f"{shown(table)}: line {number} has {len(cells)} cells, the first line {width}; expected as many "
                "(with quotes around what holds the delimiter)"
            )
    return [_row(number, cells + [""] * width, columns) for number, cells in body]


def _row(number: int, cells: list[str], columns: _Columns) -> LabelRow:
    return LabelRow(
        number,
        cells[columns.file],
        "" if columns.label is None else cells[columns.label],
        None if columns.part is None else cells[columns.part].lower(),
    )


def _text(table: Path) -> str:
    try:
        content = table.read_bytes()
    except OSError as error:
        raise DataError(f"cannot read {shown(table)}: {error.strerror}") from error
    wide = content.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE))
    # Names of files are bytes: those that are no UTF-8 are found again as they are.
    text = content.decode("utf-16", "replace") if wide else content.decode("utf-8-sig", "surrogateescape")
    if "\0" in text:
        raise DataError(f"{shown(table)} holds bytes that are no text; expected a table with a line for each image")
    if not text.strip():
        raise DataError(f"{shown(table)} is empty; expected a table with a line for each image")
    return text


def _choose_delimiter(table: Path, text: str, labelled: bool) -> tuple[_Lines, _Columns]:
    """The lines, by the delimiter with which their columns can be told."""
    widest: list[str] = []
    wrong: DataError | None = None
    for delimiter in _DELIMITERS:
        lines, error = _lines(table, text, delimiter)
        columns = _columns(table, lines, labelled) if lines else None
        if columns is not None and error is not None:
            raise error
        if columns is not None:
            return lines, columns
        if lines:
            widest = max(widest, lines[0][1], key=len)
        wrong = wrong or error
    if not widest:
        raise wrong or DataError(f"{shown(table)} names no images; expected a line for each")
    names = ", ".join(shown(name) or "(none)" for name in widest[:8]) + (" ..." if len(widest) > 8 else "")
    label = f" and one of labels ({', '.join(LABELS)}), or those two alone" if labelled else ""
    raise DataError(f"{shown(table)} has the columns {names}; expected one of files ({', '.join(FILES[:5])}){label}")


def _lines(table: Path, text: str, delimiter: str) -> tuple[_Lines, DataError | None]:
    """Lines that are not blank, up to the first that is no CSV, and what is said of that."""
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=delimiter, strict=True)
    found: _Lines = []
    start = 1
    try:
        for cells in reader:
            stripped = [cell.strip() for cell in cells]
            if any(stripped):
                found.append((start, stripped))
            start = reader.line_num + 1
    except csv.Error as error:
        return found, DataError(f"{shown(table)}: line {start} cannot be read ({error}); expected CSV")
    return found, None


def _columns(table: Path, lines: _Lines, labelled: bool) -> _Columns | None:
    """By the names of the columns, or where there are two, by which of them holds files."""
    header = [name.lower().replace(" ", "_").replace("-", "_") for name in lines[0][1]]
    file, label, part = (_named(table, header, names) for names in (FILES, LABELS, PARTS))
    if file is not None and (label is not None or not labelled):
        return _Columns(file, label, part)
    rest = [index for index in range(len(header)) if index != part]
    if len(rest) != 2:
        return None
    named = file is not None
    if file is None and label is None:
        file = _holding_files(table, lines, rest)
    elif file is None:
        file = next(index for index in rest if index != label)
    if file is None:
        return None
    label = next(index for index in rest if index != file)
    return _Columns(file, label, part, named or not _is_image(table, lines[0][1][file]))


def _named(table: Path, header: Sequence[str], names: Sequence[str]) -> int | None:
    found = [index for index, name in enumerate(header) if name in names]
    if len(found) > 1:
        raise DataError(
            f"{shown(table)} has the columns {' and '.join(header[index] for index in found)}, which may mean the "
            f"same; expected one of {', '.join(names)}"
        )
    return found[0] if found else None


def _holding_files(table: Path, lines: _Lines, columns: Sequence[int]) -> int | None:
    """The one column in which files are named that exist."""
    found = [
        index
        for index in columns
        if any(_is_file(table, cells[index]) for _, cells in lines[:_LOOKED_AT] if index < len(cells))
    ]
    if len(found) > 1:
        raise DataError(
            f"{shown(table)} names files in both of its columns, as tables of images and masks do; expected files and "
            "labels"
        )
    return found[0] if found else None


def _is_image(table: Path, cell: str) -> bool:
    """Whether a cell of the first line names an image and not a column, be it there or not."""
    return PurePath(cell).suffix.lower() in SUFFIXES or _is_file(table, cell)


def _is_file(table: Path, cell: str) -> bool:
    try:
        return bool(cell) and (table.parent / cell.replace("\\", "/")).is_file()
    except (OSError, ValueError):
        return False
