"""Reading tables: files whole or as a stream of batches, and tables in memory."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa

from nasfast.errors import DataError
from nasfast.tables.arff import read_arff
from nasfast.tables.columnar import read_arrow, read_parquet
from nasfast.tables.data import FilePart, TableData
from nasfast.tables.delimited import read_delimited
from nasfast.tables.files import find_format
from nasfast.tables.join import join_tables
from nasfast.tables.json_lines import read_json_lines
from nasfast.tables.memory import from_memory, is_in_memory
from nasfast.utils.shown import shown

ROWS = 65536
"""Most rows of a batch, where nothing else is asked for."""

PathLike = str | os.PathLike[str]


@dataclass
class Batches:
    """A file as a stream of batches, read once; ``notes`` grow as it is read."""

    path: Path
    notes: list[str]
    _batches: Iterator[Any]

    def __iter__(self) -> Iterator[Any]:
        return self._batches


def open_batches(path: PathLike, rows: int = ROWS) -> Batches:
    """The record batches of a file of any size, at least one, none of more than ``rows`` rows.

    How it is written is found out anew for every file. A file with a header and no row is one batch without rows. Of
    JSON lines, later batches may have more columns.

    Raises:
        DataError: It is no table, here or when the batches are read.
    """
    notes: list[str] = []
    source = Path(path)
    return Batches(source, notes, _cut(_batches(source, notes, rows), rows))


def read_table(data: Any) -> TableData:
    """A table: a path, several of files with the same columns, or what is in memory.

    Args:
        data: A path or a sequence of paths; a pyarrow table or batch; a DataFrame of pandas, polars or another library
            that speaks Arrow; a NumPy array of two dimensions; a mapping of names to columns.

    Raises:
        DataError: It is no table, has no rows, or the files differ in their columns.
    """
    if isinstance(data, TableData):
        return data
    if is_in_memory(data):
        table, notes = from_memory(data)
        return TableData(table, (FilePart("", table.num_rows),), tuple(notes))
    paths = [Path(path) for path in _paths(data)]
    notes = []
    tables = [_read_file(path, notes) for path in paths]
    names = [shown(path) for path in paths]
    table = join_tables(tables, names, notes)
    if not table.num_rows:
        raise DataError(f"{', '.join(names)}: a header and no rows: expected rows of values below it")
    parts = tuple(FilePart(name, part.num_rows) for name, part in zip(names, tables, strict=True))
    return TableData(table, parts, tuple(notes))


def _paths(data: Any) -> Sequence[PathLike]:
    if isinstance(data, (str, os.PathLike)):
        return [data]
    paths = list(data) if isinstance(data, Iterable) else []
    if not paths or not all(isinstance(path, (str, os.PathLike)) for path in paths):
        raise DataError(f"got {type(data).__name__}: expected paths of files, or a table in memory")
    return paths


def _read_file(path: Path, notes: list[str]) -> Any:
    batches = list(_batches(path, notes, ROWS))
    tables = [pa.Table.from_batches([batch]) for batch in batches]
    if all(table.schema.equals(tables[0].schema) for table in tables):
        return pa.Table.from_batches(batches, batches[0].schema)
    return pa.concat_tables(tables, promote_options="permissive")


def _batches(path: Path, notes: list[str], rows: int) -> Iterator[Any]:
    kind = find_format(path)
    if kind == "parquet":
        return read_parquet(path, notes, rows)
    if kind == "arrow":
        return read_arrow(path, notes)
    readers = {"json": read_json_lines, "arff": read_arff, "delimited": read_delimited}
    return readers[kind](path, notes)


def _cut(batches: Iterator[Any], rows: int) -> Iterator[Any]:
    """Batches of at most ``rows`` rows; one without rows where there is no other."""
    empty, any_rows = None, False
    for batch in batches:
        empty = batch if empty is None else empty
        for start in range(0, batch.num_rows, rows):
            any_rows = True
            yield batch.slice(start, rows)
    if not any_rows and empty is not None:
        yield empty
