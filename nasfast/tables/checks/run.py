"""All checks of a table."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from nasfast.errors import ConfigError
from nasfast.tables.checks.balance import find_in_target
from nasfast.tables.checks.columns import find_in_columns
from nasfast.tables.checks.drift import find_drift, find_shared_rows
from nasfast.tables.checks.duplicates import find_same_columns, find_same_rows
from nasfast.tables.checks.features import Feature, make_features
from nasfast.tables.checks.finding import SEVERITIES, Finding
from nasfast.tables.checks.leaks import find_leaks
from nasfast.tables.checks.roles import MOST_PARTS, find_in_roles, find_split_groups, split_parts
from nasfast.tables.data import TableData
from nasfast.tables.infer import infer_schema
from nasfast.tables.schema import Schema
from nasfast.tables.target import Target, read_target
from nasfast.utils.suggest import must_be_one_of

ROLES = ("group", "time", "split", "weight")


@dataclass(frozen=True)
class CheckResult:
    """What is known of a table before training.

    Attributes:
        table: As it was read.
        target: What is to be predicted.
        schema: Kinds of the features.
        findings: Errors first, then warnings, then what else is to be known.
    """

    table: TableData
    target: Target
    schema: Schema
    findings: tuple[Finding, ...]


def check_table(
    table: TableData,
    target: str,
    task: str = "auto",
    roles: Mapping[str, str | None] | None = None,
    overrides: Mapping[str, str] | None = None,
) -> CheckResult:
    """Look at a table as a model would, without training one.

    Args:
        target, task: See :func:`nasfast.tables.target.read_target`.
        roles: By one of :data:`ROLES`, the column that has it.
        overrides: See :func:`nasfast.tables.infer.infer_schema`.

    Raises:
        DataError: The target or another column cannot be used.
        ConfigError: A role, task or kind is unknown.
    """
    others = {role: name for role, name in (roles or {}).items() if name is not None}
    for role in others:
        if role not in ROLES:
            raise ConfigError(f"the role {must_be_one_of(role, ROLES)}")
    read = read_target(table, target, task)
    schema = infer_schema(table, target, others, overrides)
    found = sorted(_findings(table, read, schema, others), key=lambda finding: SEVERITIES.index(finding.severity))
    return CheckResult(table, read, schema, tuple(found))


def _findings(table: TableData, target: Target, schema: Schema, roles: Mapping[str, str]) -> Iterator[Finding]:
    features = make_features(table.data, schema)
    known = [feature.take(target.rows) for feature in features]
    yield from find_leaks(known, target)
    yield from find_in_roles(table.data, roles)
    yield from find_in_target(target, len(features))
    yield from find_same_rows(known, target.y)
    for part, names in _parts(table, roles):
        yield from find_drift(*_with_part(features, part), names)
        yield from find_shared_rows(*_with_part(features, part), names)
        if "group" in roles:
            yield from find_split_groups(split_parts(table.data, roles["group"])[0], part, names)
    yield from find_in_columns(schema, features)
    yield from find_same_columns(features)


def _parts(table: TableData, roles: Mapping[str, str]) -> Iterator[tuple[np.ndarray[Any, Any], Sequence[str]]]:
    """Files, and what the split column says, where there are several."""
    if len(table.parts) > 1:
        counts = [part.rows for part in table.parts]
        yield np.repeat(np.arange(len(counts)), counts), [part.name for part in table.parts]
    if "split" in roles:
        part, names = split_parts(table.data, roles["split"])
        if 2 <= len(names) <= MOST_PARTS:
            yield part, names


def _with_part(features: list[Feature], part: np.ndarray[Any, Any]) -> tuple[list[Feature], np.ndarray[Any, Any]]:
    rows = np.flatnonzero(part >= 0)
    return [feature.take(rows) for feature in features], part[rows]
