"""The columns of any table that has them, as arrays of their kinds."""

from __future__ import annotations

from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from nasfast.errors import DataError
from nasfast.tables.canonical import flat, is_nested, is_number, is_text, to_text, without_zeros
from nasfast.tables.data import arrow_of
from nasfast.tables.date_text import ORDERS, parse_dates
from nasfast.tables.missing import without_missing
from nasfast.tables.number_text import NumberStyle, parse_numbers
from nasfast.tables.schema import Column, Schema
from nasfast.tables.typed_values import is_clock, is_date, to_floats, to_seconds
from nasfast.utils.shown import shown

_TRUTH = {"0/1": ("0", "1"), "true/false": ("false", "true")}


def convert(table: Any, schema: Schema) -> dict[str, Any]:
    """Every column of the schema that is not ignored, whatever form it has in the table.

    A number is float64 [N], NaN for missing or unreadable. A date is float64 [N], seconds since 1970 in UTC, NaN for
    missing or unreadable. A category or text is a ``pa.StringArray`` in one form ("3" for 3, 3.0 and "3.0"), null for
    missing. A column that the table lacks is all missing; others and their order do not matter.

    Args:
        table: A :class:`nasfast.tables.data.TableData`, a pyarrow table or a batch.

    Raises:
        DataError: The table has none of the columns.
    """
    data = arrow_of(table)
    there = set(data.schema.names)
    if schema.used and not any(column.name in there for column in schema.used):
        known = ", ".join(shown(column.name) for column in schema.used[:8]) + (" ..." if len(schema.used) > 8 else "")
        raise DataError(f"the table has none of the columns that are needed: expected {known}")
    return {
        column.name: convert_column(data, column) if column.name in there else _absent(column, data.num_rows)
        for column in schema.used
    }


def convert_column(data: Any, column: Column) -> Any:
    """One column of a table or batch, as :func:`convert` gives it."""
    index = data.schema.names.index(column.name)
    values = flat(data.column(index))
    if column.kind == "number":
        return _numbers(values, column, data.schema.field(index).metadata or {})
    if column.kind == "date":
        return _dates(values, column)
    return _texts(values, column)


def _absent(column: Column, rows: int) -> Any:
    if column.kind in ("number", "date"):
        return np.full(rows, np.nan)
    return pa.nulls(rows, pa.string())


def _numbers(values: Any, column: Column, metadata: dict[bytes, bytes]) -> np.ndarray[Any, Any]:
    kind = values.type
    if is_number(kind) or pa.types.is_boolean(kind):
        found = to_floats(values)
    elif is_date(kind) or is_clock(kind):
        found = to_seconds(values)
    elif is_text(kind):
        found = parse_numbers(without_missing(to_text(values), column.kept), _style(column, metadata))
    else:
        return np.full(len(values), np.nan)
    found[~np.isfinite(found)] = np.nan
    if column.sentinels:
        found[np.isin(found, column.sentinels)] = np.nan
    return found


def _style(column: Column, metadata: dict[bytes, bytes]) -> NumberStyle:
    """As the schema says, but where the file itself shows another decimal mark."""
    decimal = metadata.get(b"decimal", b"").decode()
    if decimal and decimal != column.decimal:
        return NumberStyle(decimal, metadata.get(b"thousands", b"").decode())
    return NumberStyle(column.decimal, column.thousands or metadata.get(b"thousands", b"").decode())


def _dates(values: Any, column: Column) -> np.ndarray[Any, Any]:
    kind = values.type
    if is_date(kind):
        return to_seconds(values)
    if is_nested(kind) or pa.types.is_null(kind) or pa.types.is_boolean(kind) or is_clock(kind):
        return np.full(len(values), np.nan)
    return parse_dates(without_missing(to_text(values), column.kept), column.order or ORDERS[0])


def _texts(values: Any, column: Column) -> Any:
    texts = without_missing(to_text(values), column.kept)
    if column.kind == "category":
        texts = without_zeros(texts)
    if column.truth:
        texts = _truth(texts, _TRUTH[column.truth])
    return texts


def _truth(texts: Any, words: tuple[str, str]) -> Any:
    """0 and 1, false and true in any case, in the words of the column; others as they are."""
    lower = pc.ascii_lower(texts)
    for word, same in zip(words, (("0", "false"), ("1", "true")), strict=True):
        texts = pc.if_else(pc.fill_null(pc.is_in(lower, pa.array(same)), False), word, texts)
    return texts
