"""Tables in memory: pyarrow, DataFrames, NumPy arrays and mappings of columns, as a pyarrow table."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import pyarrow as pa

from nasfast.errors import DataError
from nasfast.tables.data import TableData
from nasfast.tables.names import INDEX, unique_names

EXPECTED = "a pyarrow table, a DataFrame, a NumPy array of two dimensions, or a mapping of names to columns"

_WHERE = "the table"


def is_in_memory(value: Any) -> bool:
    """Whether :func:`from_memory` takes it; paths it does not."""
    if isinstance(value, (pa.Table, pa.RecordBatch, np.ndarray, Mapping)):
        return True
    return hasattr(value, "__arrow_c_stream__") or hasattr(value, "iloc")


def from_memory(value: Any) -> tuple[Any, list[str]]:
    """The table, and notes.

    Raises:
        DataError: It is none of these, or its columns differ in length.
    """
    notes: list[str] = []
    if isinstance(value, TableData):
        return value.data, list(value.notes)
    if isinstance(value, pa.RecordBatch):
        value = pa.Table.from_batches([value])
    if hasattr(value, "iloc") and hasattr(value, "columns"):  # pandas; its own export refuses columns of mixed types
        return _table(list(value.columns), [value.iloc[:, i] for i in range(value.shape[1])], notes), notes
    if not isinstance(value, pa.Table) and hasattr(value, "__arrow_c_stream__"):
        try:
            value = pa.table(value)
        except (pa.ArrowException, TypeError, ValueError) as error:
            raise DataError(f"the table cannot be read ({str(error).splitlines()[0]}): expected {EXPECTED}") from error
    if isinstance(value, pa.Table):
        value = value.select([i for i, name in enumerate(value.column_names) if not INDEX.fullmatch(name)])
        return value.rename_columns(unique_names(value.column_names, _WHERE, notes)), notes
    if isinstance(value, np.ndarray):
        if value.ndim != 2:
            raise DataError(f"the array has {value.ndim} dimension{'s' * (value.ndim != 1)}: expected two")
        return _table([f"x{i}" for i in range(value.shape[1])], list(value.T), notes), notes
    if isinstance(value, Mapping):
        return _table(list(value), list(value.values()), notes), notes
    raise DataError(f"got an object of type {type(value).__name__}: expected {EXPECTED}")


def _table(names: list[Any], columns: list[Any], notes: list[str]) -> Any:
    arrays = [_array(column) for column in columns]
    lengths = {len(array) for array in arrays}
    if len(lengths) > 1:
        raise DataError(f"the columns have {min(lengths)} to {max(lengths)} values: expected as many in each")
    return pa.Table.from_arrays(arrays, unique_names(names, _WHERE, notes))


def _array(column: Any) -> Any:
    """A column as pyarrow has it; one of mixed types as text."""
    if isinstance(column, (str, bytes)) or not hasattr(column, "__len__"):
        raise DataError(f"a column is {type(column).__name__}: expected a sequence of values")
    try:
        array = pa.array(column, from_pandas=True)
    except (pa.ArrowException, TypeError, ValueError, OverflowError):
        return pa.array([_text(value) for value in column], pa.string())
    return array.combine_chunks() if isinstance(array, pa.ChunkedArray) else array


def _text(value: Any) -> str | None:
    if value is None or (isinstance(value, float) and value != value):
        return None
    if isinstance(value, (bool, np.bool_)):
        return "true" if value else "false"
    if isinstance(value, bytes):
        return value.decode("utf-8", "replace")
    return str(value).encode("utf-8", "replace").decode()
