"""Parquet and Feather (Arrow IPC), whose columns keep their types."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pyarrow as pa

from nasfast.errors import DataError
from nasfast.tables.names import INDEX, unique_names
from nasfast.utils.shown import shown


def read_parquet(path: Path, notes: list[str], rows: int) -> Iterator[Any]:
    """The batches of a file, at least one.

    Raises:
        DataError: It is damaged.
    """
    from pyarrow import parquet

    with _one_line(path, "Parquet"), parquet.ParquetFile(path) as file:
        names = _names(file.schema_arrow, path, notes)
        yield _named(_no_rows(file.schema_arrow), names)
        for batch in file.iter_batches(rows):
            yield _named(batch, names)


def read_arrow(path: Path, notes: list[str]) -> Iterator[Any]:
    """The batches of a Feather file (version 2) or an Arrow stream, at least one.

    Raises:
        DataError: It is damaged.
    """
    with _one_line(path, "Feather"), pa.memory_map(str(path)) as source:
        is_file = source.read(6) == b"ARROW1"
        source.seek(0)
        reader = pa.ipc.open_file(source) if is_file else pa.ipc.open_stream(source)
        names = _names(reader.schema, path, notes)
        yield _named(_no_rows(reader.schema), names)
        batches = map(reader.get_batch, range(reader.num_record_batches)) if is_file else reader
        for batch in batches:
            yield _named(batch, names)


def _no_rows(schema: Any) -> Any:
    return pa.RecordBatch.from_arrays([pa.array([], field.type) for field in schema], schema=schema)


def _names(schema: Any, path: Path, notes: list[str]) -> list[str]:
    return unique_names([name for name in schema.names if not INDEX.fullmatch(name)], shown(path), notes)


def _named(batch: Any, names: list[str]) -> Any:
    kept = [index for index, name in enumerate(batch.schema.names) if not INDEX.fullmatch(name)]
    return pa.RecordBatch.from_arrays([batch.column(index) for index in kept], names)


@contextmanager
def _one_line(path: Path, what: str) -> Iterator[None]:
    try:
        yield
    except (pa.ArrowException, OSError) as error:
        reason = str(error).split("\n")[0].rstrip(".")
        raise DataError(f"{shown(path)} is damaged or cut short ({reason}): expected a whole {what} file") from error
