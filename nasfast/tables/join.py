"""Files of the same columns as one table."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from nasfast.errors import DataError
from nasfast.tables.canonical import flat, to_text
from nasfast.tables.data import say
from nasfast.tables.missing import without_missing
from nasfast.tables.number_text import NumberStyle, parse_numbers
from nasfast.utils.shown import shown
from nasfast.utils.suggest import did_you_mean


def join_tables(tables: Sequence[Any], where: Sequence[str], notes: list[str]) -> Any:
    """The rows of all tables below each other, with the columns in the order of the first.

    A column that has other types in other files becomes text; numbers that are written otherwise in other files are
    written with a decimal point.

    Raises:
        DataError: A table has a column that the first has not, or not one that it has.
    """
    first = tables[0]
    for table, name in zip(tables[1:], where[1:], strict=True):
        _check_same_names(first.column_names, table.column_names, where[0], name)
    if len(tables) == 1:
        return first
    columns, fields = [], []
    for name in first.column_names:
        parts = [table.column(name) for table in tables]
        metas = [table.schema.field(name).metadata or {} for table in tables]
        if len({str(part.type) for part in parts}) > 1:
            say(notes, f"column {shown(name)} has other types in other files; it is read as text")
            parts = [to_text(part) for part in parts]
        meta = metas[0]
        if any(other != meta for other in metas):
            parts = [_plain(part, one) for part, one in zip(parts, metas, strict=True)]
            meta = {key: value for key, value in meta.items() if key == b"declared"}
        columns.append(pa.chunked_array([chunk for part in parts for chunk in part.chunks], parts[0].type))
        fields.append(pa.field(name, parts[0].type, metadata=meta))
    return pa.Table.from_arrays(columns, schema=pa.schema(fields, first.schema.metadata))


def _plain(texts: Any, meta: dict[bytes, bytes]) -> Any:
    """Numbers with a decimal point where they have a decimal comma or parted thousands; other texts as they are."""
    style = NumberStyle(meta.get(b"decimal", b".").decode(), meta.get(b"thousands", b"").decode())
    if not pa.types.is_string(texts.type) or (style.decimal == "." and not style.thousands):
        return texts
    whole = flat(texts)
    numbers = pa.array(parse_numbers(without_missing(whole), style), from_pandas=True)
    return pa.chunked_array([pc.coalesce(pc.cast(numbers, pa.string()), whole)])


def _check_same_names(first: list[str], other: list[str], first_name: str, name: str) -> None:
    for column in other:
        if column not in first:
            raise DataError(
                f"{name} has the column {shown(column)}, {first_name} has not: expected the same columns in all files"
                f"{did_you_mean(column, first)}"
            )
    for column in first:
        if column not in other:
            raise DataError(
                f"{name} has no column {shown(column)}, {first_name} has: expected the same columns in all files"
                f"{did_you_mean(column, other)}"
            )
