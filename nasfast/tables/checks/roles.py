"""Findings about columns that have a role: group, time, split and weight."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from nasfast.tables.checks.features import text_codes
from nasfast.tables.checks.finding import Finding
from nasfast.tables.convert import convert_column
from nasfast.tables.infer import infer_column
from nasfast.tables.schema import Column

_FOLDS = 5
MOST_PARTS = 8
"""Distinct values that a column of parts, such as train and test, has at most."""

Array = np.ndarray[Any, Any]


def find_in_roles(data: Any, roles: Mapping[str, str]) -> Iterator[Finding]:
    """Findings about the columns with a role, one after the other."""
    checks = {"group": _group, "time": _time, "split": _split, "weight": _weight}
    for role, name in roles.items():
        yield from checks[role](data, name)


def find_split_groups(group: Array, part: Array, names: Sequence[str]) -> Iterator[Finding]:
    """A finding where rows of one group lie in several parts.

    Args:
        group, part: For each row, int64 [N], the index of its group and of its part, -1 for none.
        names: Of the parts.
    """
    known = (group >= 0) & (part >= 0)
    pairs = np.unique(group[known] * len(names) + part[known])
    _, parts = np.unique(pairs // len(names), return_counts=True)
    shared = int((parts > 1).sum())
    if shared:
        yield Finding(
            "error",
            "",
            f"rows of {shared:,} of {len(parts):,} groups lie in several of {', '.join(names)}",
            "a test on groups that were trained on says nothing of new ones",
        )


def split_parts(data: Any, name: str) -> tuple[Array, list[str]]:
    """For each row the index of its part, int64 [N], -1 for none, and the names of the parts."""
    texts = _texts(data, name)
    codes = text_codes(texts)
    names = texts.drop_null().unique().to_pylist()
    return np.where(np.isnan(codes), -1, codes).astype(np.int64), names


def _texts(data: Any, name: str) -> Any:
    return convert_column(data, Column(name, "category", ""))


def _group(data: Any, name: str) -> Iterator[Finding]:
    part, names = split_parts(data, name)
    yield from _absent(name, int((part < 0).sum()), "group")
    if len(names) < _FOLDS:
        yield Finding("warning", name, f"{len(names)} groups: fewer than the {_FOLDS} folds that are usual")
    elif len(names) == len(part):
        yield Finding("warning", name, "every row is a group of its own", "leave out --group, or name another column")


def _time(data: Any, name: str) -> Iterator[Finding]:
    column = infer_column(data, name)
    if column.kind not in ("date", "number") and "identifier" not in column.reason:
        yield Finding("error", name, f"is no time: {column.reason}", "--time needs dates or numbers")
        return
    values = convert_column(data, column if column.kind == "date" else Column(name, "number", ""))
    yield from _absent(name, int(np.isnan(values).sum()), "time")


def _split(data: Any, name: str) -> Iterator[Finding]:
    part, names = split_parts(data, name)
    yield from _absent(name, int((part < 0).sum()), "part")
    if not 2 <= len(names) <= MOST_PARTS:
        yield Finding(
            "error", name, f"has {len(names):,} distinct values", "--split needs parts such as train and test"
        )


def _weight(data: Any, name: str) -> Iterator[Finding]:
    values = convert_column(data, infer_column(data, name))
    if not isinstance(values, np.ndarray):
        values = convert_column(data, Column(name, "number", ""))
    yield from _absent(name, int(np.isnan(values).sum()), "weight")
    negative = int((values < 0).sum())
    if negative:
        yield Finding("error", name, f"{negative:,} weights are below 0", "--weight needs numbers from 0 on")


def _absent(name: str, rows: int, what: str) -> Iterator[Finding]:
    if rows:
        yield Finding("warning", name, f"{rows:,} rows have no {what}")
