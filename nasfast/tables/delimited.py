"""CSV, TSV and their like, as batches of text.

pyarrow reads what is regular, which is fast. Where it finds a record that does not fit, Python's reader goes on: it
fills up what is short, and says of what is wrong on which line it stands.
"""

from __future__ import annotations

import csv
import io
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
from pyarrow import csv as arrow_csv

from nasfast.errors import DataError
from nasfast.tables.data import say
from nasfast.tables.dialect import DELIMITERS, Dialect, Head, read_head
from nasfast.tables.encoding import read_utf8
from nasfast.tables.files import EXPECTED
from nasfast.tables.missing import without_missing
from nasfast.tables.names import unique_names
from nasfast.tables.number_text import PLAIN, find_style
from nasfast.tables.stream import ChunkStream
from nasfast.utils.shown import shown

_HEAD = 1 << 18
_LONG_HEAD = 1 << 25  # where the header alone is longer than _HEAD
_BLOCK = 1 << 23
_ROWS = 65536
_SHOWN = 60  # characters of a field that an error shows


@dataclass(frozen=True)
class _Layout:
    path: Path
    head: Head
    names: list[str]
    schema: Any

    @property
    def width(self) -> int:
        return len(self.names)


def read_delimited(path: Path, notes: list[str]) -> Iterator[Any]:
    """The batches of a file, at least one.

    Raises:
        DataError: It is no table.
    """
    layout = _find_layout(path, notes)
    yield pa.RecordBatch.from_arrays([pa.array([], pa.string())] * layout.width, schema=layout.schema)
    done = 0
    try:
        for batch in _fast(layout, notes):
            yield batch
            done += batch.num_rows
    except pa.ArrowInvalid:  # a record that does not fit; below it is found, and filled up or refused
        yield from _exact(layout, done, notes)


def _find_layout(path: Path, notes: list[str]) -> _Layout:
    head = _open_head(path, notes, _HEAD)
    if head is None:
        head = _open_head(path, notes, _LONG_HEAD)
    if head is None or not any(name.strip() for name in head.header):
        raise DataError(f"{shown(path)} has no header in its first lines: expected {EXPECTED}")
    _check_title(path, head)
    names = unique_names(head.header, shown(path), notes)
    fields = [_field(name, [row[i] for row in head.records if i < len(row)], head) for i, name in enumerate(names)]
    said = head.dialect.differences()
    if any((field.metadata or {}).get(b"decimal") == b"," for field in fields):
        said.append("decimal commas")
    if said:
        say(notes, f"{shown(path)}: {', '.join(said)}")
    if pc.sum(pc.match_substring_regex(pa.array(names), PLAIN)).as_py() * 2 > len(names):
        say(notes, f"{shown(path)}: the first line, read as names of columns, looks like values; expected a header")
    return _Layout(path, head, names, pa.schema(fields, {b"delimiter": head.dialect.delimiter.encode()}))


def _check_title(path: Path, head: Head) -> None:
    """DataError where a line without delimiters stands above what looks like a table."""
    lines = [cells[0] for cells in head.records]
    if len(head.header) > 1 or len(lines) < 2 or any(len(cells) > 1 for cells in head.records):
        return
    if any("\n" in line or "\r" in line for line in lines):  # there are quotes, so it is no line as it stands
        return
    for delimiter in DELIMITERS:
        widths = {len(cells) for cells in csv.reader(lines, delimiter=delimiter)}
        if len(widths) == 1 and min(widths) > 2:
            raise DataError(
                f"{shown(path)}: line {head.header_lines} has 1 field, those below it {min(widths)}, parted by "
                f"{delimiter!r}: expected a header with the names of columns first"
            )


def _open_head(path: Path, notes: list[str], size: int) -> Head | None:
    """The first lines; None where the header is longer."""
    content, whole = ChunkStream(read_utf8(path, notes)).look_ahead(size)
    text = content.decode("utf-8", "ignore")
    if not text.strip():
        raise DataError(f"{shown(path)} is empty: expected {EXPECTED}")
    if not whole:
        end = max(text.rfind("\n"), text.rfind("\r")) + 1
        if not end:
            return None
        text = text[:end]
    return read_head(text, whole)


def _field(name: str, values: list[str], head: Head) -> Any:
    """A column of text, with the style of its numbers where the first records leave no doubt."""
    if not any("," in value or "." in value for value in values):
        return pa.field(name, pa.string())
    texts = without_missing(pa.array(values, pa.string())).drop_null().unique()
    style = find_style(texts, head.dialect.delimiter == ";")
    if not style.sure:
        return pa.field(name, pa.string())
    return pa.field(name, pa.string(), metadata={b"decimal": style.decimal, b"thousands": style.thousands})


def _open_body(layout: _Layout, notes: list[str]) -> ChunkStream:
    stream = ChunkStream(read_utf8(layout.path, notes))
    stream.skip(layout.head.header_bytes)
    return stream


def _fast(layout: _Layout, notes: list[str]) -> Iterator[Any]:
    dialect = layout.head.dialect
    if dialect.skip_space:
        raise pa.ArrowInvalid("pyarrow does not leave out blanks before quotes")
    stream = _open_body(layout, notes)
    columns = [*layout.names, *(f"\0{i}" for i in range(layout.head.trailing))]
    reader = arrow_csv.open_csv(
        pa.PythonFile(stream, mode="r"),
        arrow_csv.ReadOptions(column_names=columns, block_size=_BLOCK),
        arrow_csv.ParseOptions(
            delimiter=dialect.delimiter,
            quote_char=dialect.quote,
            escape_char=dialect.escape or False,
            newlines_in_values=True,
        ),
        arrow_csv.ConvertOptions(column_types=dict.fromkeys(columns, pa.string()), check_utf8=False),
    )
    last = None
    for batch in reader:
        if batch.num_rows:
            last = _finished(batch, layout)
            yield last
    if last is not None and _ends_in_quotes(last, layout, stream.tail):
        raise pa.ArrowInvalid("a quote that does not end, which pyarrow lets pass")


def _ends_in_quotes(batch: Any, layout: _Layout, tail: bytes) -> bool:
    """Whether the last field has lines, as only a quoted one may, and no quote behind them."""
    field = batch.column(layout.width - 1)[-1].as_py()
    dialect = layout.head.dialect
    end = tail.decode("utf-8", "ignore").rstrip(f" \r\n{dialect.delimiter}")
    return ("\n" in field or "\r" in field) and not end.endswith(dialect.quote)


def _finished(batch: Any, layout: _Layout) -> Any:
    for index in range(layout.width, batch.num_columns):
        if pc.any(pc.not_equal(batch.column(index), "")).as_py():
            raise pa.ArrowInvalid("a field behind the last column")
    return pa.RecordBatch.from_arrays(batch.columns[: layout.width], schema=layout.schema)


def _exact(layout: _Layout, done: int, notes: list[str]) -> Iterator[Any]:
    """The batches behind the first ``done`` rows, by Python's reader."""
    rows: list[list[str]] = []
    for number, cells in enumerate(_records(layout, notes)):
        if number < done:
            continue
        rows.append(cells)
        if len(rows) == _ROWS:
            yield _batch(rows, layout)
            rows = []
    if rows:
        yield _batch(rows, layout)


def _batch(rows: list[list[str]], layout: _Layout) -> Any:
    columns = [pa.array(column, pa.string()) for column in zip(*rows, strict=True)]
    return pa.RecordBatch.from_arrays(columns, schema=layout.schema)


def _records(layout: _Layout, notes: list[str]) -> Iterator[list[str]]:
    """Records of as many fields as there are columns."""
    text = io.TextIOWrapper(io.BufferedReader(_open_body(layout, notes)), encoding="utf-8", newline="")
    reader = csv.reader(text, **layout.head.dialect.settings(), strict=True)
    before = layout.head.header_lines
    line = before + 1
    where = shown(layout.path)
    try:
        for cells in reader:
            if len(cells) == layout.width:
                yield cells
            elif cells and (layout.width == 1 or len(cells) > 1 or cells[0].strip()):
                yield _fitted(cells, layout, line, notes)
            line = before + reader.line_num + 1
    except csv.Error as error:
        raise DataError(f"{where}: line {line} cannot be read ({error}): expected quotes that end") from error


def _fitted(cells: list[str], layout: _Layout, line: int, notes: list[str]) -> list[str]:
    """The fields filled up, or without empty ones behind the last column."""
    where, width = f"{shown(layout.path)}: line {line}", layout.width
    if len(cells) < width:
        _check_delimiter(cells, layout, where)
        say(notes, f"{shown(layout.path)}: some lines have fewer fields than the header; what is absent is missing")
        return cells + [""] * (width - len(cells))
    if any(cell.strip() for cell in cells[width:]):
        raise DataError(
            f"{where} has {len(cells)} fields, the header {width}: expected as many, with quotes around what holds "
            f"{layout.head.dialect.delimiter!r}"
        )
    return cells[:width]


def _check_delimiter(cells: list[str], layout: _Layout, where: str) -> None:
    """DataError where a line is written with another delimiter than the header."""
    dialect = layout.head.dialect
    line = dialect.delimiter.join(cells)
    for other in DELIMITERS:
        if other != dialect.delimiter and line.count(other) >= layout.width - 1 > 0 and len(cells) < layout.width:
            fields = next(csv.reader([line], **Dialect(other, dialect.quote).settings()))
            if len(fields) == layout.width:
                raise DataError(
                    f"{where} parts its fields by {other!r}, the header by {dialect.delimiter!r}: expected one "
                    f"delimiter, got {shown(line[:_SHOWN])}"
                )
