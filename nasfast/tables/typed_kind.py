"""What a column is whose type is not text: of Parquet, Feather and DataFrames."""

from __future__ import annotations

from typing import Any

import pyarrow as pa

from nasfast.tables.canonical import is_nested
from nasfast.tables.facts import number_facts
from nasfast.tables.number_kind import missing_text, number_kind
from nasfast.tables.schema import Column
from nasfast.tables.typed_values import is_clock, is_date, to_floats, to_seconds


def typed_kind(name: str, values: Any, given: bool = False) -> Column:
    """The column, with the reason; ``given`` takes every number as a number."""
    kind = values.type
    if values.null_count == len(values):
        return Column(name, "ignored", "all values are missing")
    if is_nested(kind):
        return Column(name, "ignored", f"{kind}: nested values and bytes are not used")
    if pa.types.is_boolean(kind):
        return _truth(name, values)
    numbers = to_seconds(values) if is_date(kind) or is_clock(kind) else to_floats(values)
    facts = number_facts(name, numbers, None, len(values))
    if not is_date(kind):
        return number_kind(facts, given=given)
    if facts.distinct == 1 and not facts.missing:
        return Column(name, "ignored", "constant: one date in every row")
    return Column(name, "date", f"of the type {kind}{missing_text(facts)}")


def _truth(name: str, values: Any) -> Column:
    missing = f"; {values.null_count:,} missing" if values.null_count else ""
    if len(values.unique().drop_null()) == 1:
        value = str(values.drop_null()[0].as_py()).lower()
        if not missing:
            return Column(name, "ignored", f"constant: {value} in every row")
        return Column(name, "category", f"{value} or missing ({values.null_count:,} rows)", truth="true/false")
    return Column(name, "category", f"true or false{missing}", truth="true/false")
