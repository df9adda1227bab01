"""The schema of a table: the kind of each column, with the reason."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import replace
from typing import Any

import numpy as np
import pyarrow as pa

from nasfast.errors import DataError
from nasfast.tables.canonical import flat, is_number, is_text, to_text
from nasfast.tables.data import arrow_of
from nasfast.tables.date_text import NUMERIC, ORDERS, parse_dates
from nasfast.tables.facts import NONE, TextFacts, text_facts
from nasfast.tables.number_kind import number_kind
from nasfast.tables.number_text import NumberStyle
from nasfast.tables.overrides import check_overrides
from nasfast.tables.plain_numbers import plain_numbers
from nasfast.tables.schema import Column, Schema
from nasfast.tables.text_kind import Hints, find_order, is_either_order, read_numbers, table_hints, text_kind
from nasfast.tables.typed_kind import typed_kind
from nasfast.tables.typed_values import is_clock, is_date
from nasfast.utils.shown import shown
from nasfast.utils.suggest import did_you_mean


def infer_schema(
    table: Any,
    target: str | Iterable[str] | None = None,
    roles: Mapping[str, str | None] | None = None,
    overrides: Mapping[str, str] | None = None,
) -> Schema:
    """The kinds of the columns of a table that are features.

    Args:
        table: A :class:`nasfast.tables.data.TableData`, or a pyarrow table.
        target: The column, or columns, that are to be predicted.
        roles: By role (group, time, split, weight), a column that is no feature for it.
        overrides: By column, the kind that it has whatever its values look like: number, category, date, date:dmy (or
            another of :data:`nasfast.tables.date_text.ORDERS`), number:comma or number:point (of decimals), text,
            ignored.

    Raises:
        DataError: There is no such column, or the values do not allow a kind that is given.
        ConfigError: A kind is given for a column that is no feature, or is none.
    """
    data = arrow_of(table)
    targets = [target] if isinstance(target, str) else list(target or ())
    others = {role: name for role, name in (roles or {}).items() if name is not None}
    for what, name in [*(("target", name) for name in targets), *others.items()]:
        require_column(data, name, what)
    left_out = {*targets, *others.values()}
    features = [name for name in data.column_names if name not in left_out]
    if not features:
        raise DataError("the table has no column beside the target and those with a role: expected a feature")
    given = dict(overrides or {})
    check_overrides(given, features)
    hints = table_hints(data)
    columns = [_column(data, name, hints, given.get(name)) for name in features]
    return Schema(tuple(_same_order(data, columns, given)))


def require_column(data: Any, name: str, what: str) -> None:
    """DataError where a table has no such column."""
    if name not in data.column_names:
        few = ", ".join(map(shown, data.column_names[:8])) + (" ..." if len(data.column_names) > 8 else "")
        raise DataError(
            f"there is no column {shown(name)!r} for the {what}{did_you_mean(name, data.column_names, True)}: "
            f"expected one of {few}"
        )


def infer_column(data: Any, name: str, prefer_comma: bool = False) -> Column:
    """The column of a table, feature or not, with the reason for its kind."""
    return _column(data, name, Hints(prefer_comma), None)


def _column(data: Any, name: str, hints: Hints, given: str | None) -> Column:
    field = data.schema.field(name)
    declared = (field.metadata or {}).get(b"declared", b"").decode()
    is_dictionary = pa.types.is_dictionary(field.type)
    values = flat(data.column(name))
    if given is not None:
        return _given(name, values, hints, *given.partition(":")[::2])
    if is_text(values.type) or (is_dictionary and is_number(values.type)):
        return _of_text(name, values, replace(hints, declared="category" if is_dictionary else declared))
    return typed_kind(name, values)


def _of_text(name: str, values: Any, hints: Hints) -> Column:
    plain = None if hints.declared == "category" else plain_numbers(name, to_text(values), hints.prefer_comma)
    if plain is not None:
        return number_kind(*plain)
    facts = text_facts(name, values)
    found = text_kind(facts, hints)
    if found.kind != "category" or not facts.has_none or len(facts.markers) == 1:
        return found
    # Beside another marker of what is missing, "none" is a value.
    return text_kind(text_facts(name, values, (NONE,)), hints)


def _given(name: str, values: Any, hints: Hints, kind: str, order: str) -> Column:
    if kind == "ignored":
        return Column(name, "ignored", "given as ignored")
    if kind == "number":
        return _given_number(name, values, hints, order)
    if kind == "date":
        return _given_date(name, values, order)
    facts = text_facts(name, values)
    reason = f"given as {kind}, {facts.distinct:,} distinct"
    truth = text_kind(facts, hints).truth if kind == "category" else ""
    if kind == "category" and pa.types.is_boolean(values.type):
        truth = "true/false"
    return Column(name, kind, reason, kept=facts.kept, truth=truth)  # type: ignore[arg-type]


def _given_number(name: str, values: Any, hints: Hints, mark: str) -> Column:
    if pa.types.is_boolean(values.type):
        return Column(name, "number", "given as number, true is 1")
    if not is_text(values.type):
        if is_number(values.type) or is_clock(values.type):
            return typed_kind(name, values, given=True)
        raise DataError(f"column {shown(name)!r} is given as number, but is {values.type}: expected numbers")
    facts = text_facts(name, values)
    found = read_numbers(facts, hints, NumberStyle.given(mark) if mark else None)
    if facts.present and not found.share:
        raise _not_readable(facts, "number", "a number")
    return found.described(number_kind(found.facts, facts.markers, given=True))


def _given_date(name: str, values: Any, order: str) -> Column:
    if is_date(values.type):
        return Column(name, "date", f"given as date, of the type {values.type}")
    if not is_text(values.type) and not is_number(values.type):
        raise DataError(f"column {shown(name)!r} is given as date, but is {values.type}: expected dates")
    facts = text_facts(name, values)
    told = find_order(facts)
    found = order or (told[0] if told else _most_read(facts))
    if facts.present and np.isnan(parse_dates(facts.values, found)).all():
        raise _not_readable(facts, "date", "a date such as 2024-01-31")
    lost = int(facts.counts[np.isnan(parse_dates(facts.values, found))].sum())
    return Column(name, "date", f"given as date, read as {found}", order=found, lost=lost)


def _most_read(facts: TextFacts) -> str:
    return max(ORDERS, key=lambda order: int((~np.isnan(parse_dates(facts.values, order))).sum()))


def _not_readable(facts: TextFacts, kind: str, expected: str) -> DataError:
    value = shown(facts.values[0].as_py())[:40]
    return DataError(f"column {shown(facts.name)!r} is given as {kind}, but holds {value!r}: expected {expected}")


def _same_order(data: Any, columns: list[Column], given: Mapping[str, str]) -> list[Column]:
    """Dates whose day and month could be either are read as the others of the table are."""
    dates = [column for column in columns if column.order in NUMERIC and column.name not in given]
    facts = {column.name: text_facts(column.name, data.column(column.name)) for column in dates}
    either = {name for name, found in facts.items() if is_either_order(found)}
    sure = {column.order for column in dates if column.name not in either}
    if len(sure) != 1:
        return columns
    hints = Hints(prefer_order=sure.pop())
    return [text_kind(facts[column.name], hints) if column.name in either else column for column in columns]
