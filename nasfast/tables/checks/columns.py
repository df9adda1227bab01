"""Findings about single columns: what was guessed, what is missing, what hardly tells anything."""

from __future__ import annotations

import shlex
from collections.abc import Iterator
from typing import Any

import numpy as np

from nasfast.tables.checks.features import Feature
from nasfast.tables.checks.finding import Finding, types_option
from nasfast.tables.number_kind import has_id_name
from nasfast.tables.schema import Column, Schema

_MOSTLY = 0.5  # share of the rows that is missing
_OWN = 0.5  # distinct values for each row, of a category of which most are seen once or twice
_REPEATED = 1.5  # rows for each value of what may be a group
_LEAST_GROUPS = 10
_FAR = 50.0  # times the distance between the quartiles: how far the largest value is from the median
_EVERY = 0.9  # share of the rows that have one value

Array = np.ndarray[Any, Any]


def find_in_columns(schema: Schema, features: list[Feature]) -> Iterator[Finding]:
    """Findings about the columns of a table, one after the other."""
    by_name = {feature.name: feature for feature in features}
    for column in schema.columns:
        yield from _reading(column)
        if column.name in by_name:
            yield from _values(column, by_name[column.name])


def _reading(column: Column) -> Iterator[Finding]:
    if column.kind == "ignored":
        advice = types_option(column.name, column.alternative) + " uses it" if column.alternative else ""
        yield Finding("info", column.name, f"is not used: {column.reason}", advice)
    elif column.lost:
        yield Finding(
            "warning",
            column.name,
            f"{column.lost:,} values are no {column.kind} and count as missing",
            f"correct them, or take all as texts: {types_option(column.name, 'category')}",
        )
    elif column.sentinels or column.alternative.startswith(("date:", "number:")):
        advice = f"if that is wrong: {types_option(column.name, column.alternative)}"
        yield Finding("warning", column.name, column.reason, advice)


def _values(column: Column, feature: Feature) -> Iterator[Finding]:
    absent = np.isnan(feature.values)
    present = feature.values[~absent]
    if absent.mean() > _MOSTLY:
        yield Finding("info", column.name, f"{absent.mean():.0%} of its values are missing")
    if not present.size:
        return
    if column.kind == "category":
        yield from _levels(column.name, int(present.max()) + 1, present.size)
    if column.kind in ("number", "category") and has_id_name(column.name):
        yield from _group(column.name, len(np.unique(present)), present.size)
    if column.kind == "number":
        yield from _shape(column.name, present)
    if column.kind == "date" and present.size > _LEAST_GROUPS and _is_sorted(present):
        yield Finding(
            "info",
            column.name,
            "rows are in the order of this date",
            f"to test on the latest: --time {shlex.quote(column.name)}",
        )


def _levels(name: str, distinct: int, rows: int) -> Iterator[Finding]:
    if distinct > max(_LEAST_GROUPS, _OWN * rows):
        yield Finding(
            "warning",
            name,
            f"{distinct:,} distinct texts in {rows:,} rows: most are seen once or twice",
            f"{types_option(name, 'ignored')}, or text if its words tell something",
        )


def _group(name: str, distinct: int, rows: int) -> Iterator[Finding]:
    if distinct >= _LEAST_GROUPS and rows >= _REPEATED * distinct:
        yield Finding(
            "warning",
            name,
            f"names {distinct:,} things, which occur {rows / distinct:.1f} times each on average",
            f"if rows of one belong together: --group {shlex.quote(name)}",
        )


def _shape(name: str, values: Array) -> Iterator[Finding]:
    low, middle, high = np.quantile(values, (0.25, 0.5, 0.75))
    share = float(np.mean(values == middle))
    if share > _EVERY:
        yield Finding("info", name, f"{share:.1%} of its values are {middle:g}")
        return
    furthest = values[np.argmax(np.abs(values - middle))]
    if high > low and abs(furthest - middle) > _FAR * (high - low):
        yield Finding(
            "info", name, f"very skewed: half of its values lie from {low:g} to {high:g}, one is {furthest:g}"
        )


def _is_sorted(values: Array) -> bool:
    steps = np.diff(values)
    return bool((np.all(steps >= 0) or np.all(steps <= 0)) and np.any(steps != 0))
