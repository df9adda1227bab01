"""Columns that tell the target alone: it again under another name, or known only after it."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np

from nasfast.tables.checks.features import Feature, some_rows
from nasfast.tables.checks.finding import Finding, types_option
from nasfast.tables.checks.single import class_skill, value_skill
from nasfast.tables.target import Target

_NEARLY = 0.98
"""Skill from which on a column alone is a leak rather than a good column."""
_LEAST_ROWS = 30
_GLANCE = 1_000  # rows that mostly show that a column has more values than there are classes
_LINE = 1e-9  # of 1 - |correlation|: one is a multiple of the other

Array = np.ndarray[Any, Any]


def find_leaks(features: list[Feature], target: Target) -> Iterator[Finding]:
    """A finding for each column that is the target, or tells it nearly perfectly.

    Args:
        features: At the rows that have a target.
    """
    if target.task == "multilabel" or len(target.y) < _LEAST_ROWS:
        return
    rows = some_rows(len(target.y))
    for feature in features:
        if _is_same(feature, target):
            yield _again(feature.name, target.name)
        elif not feature.is_text:
            skill = _skill(feature.take(rows), target.y[rows], target)
            if skill >= _NEARLY:
                yield _leak(feature.name, skill, target)


def _skill(feature: Feature, y: Array, target: Target) -> float:
    if target.task == "regression":
        from scipy.stats import rankdata

        return value_skill(feature, rankdata(y))  # whatever scale the column is on
    return class_skill(feature, y, len(target.classes))


def _leak(name: str, skill: float, target: Target) -> Finding:
    measure = {"binary": f"ROC AUC {(1 + skill) / 2:.3f}", "regression": f"R² {skill:.3f} of ranks"}
    found = measure.get(target.task, f"{skill:.1%} of the way from chance to perfect")
    return Finding(
        "error",
        name,
        f"tells {target.name} nearly perfectly by itself ({found} on rows not looked at)",
        f"where it is known only with the target, leave it out: {types_option(name, 'ignored')}",
    )


def _again(name: str, target: str) -> Finding:
    return Finding(
        "error", name, f"is {target} again, written otherwise", f"leave it out: {types_option(name, 'ignored')}"
    )


def _is_same(feature: Feature, target: Target) -> bool:
    values, y = feature.values, target.y
    if target.task == "regression":
        return not feature.is_code and _is_line(values, y)
    count = len(target.classes)
    if len(np.unique(values[:_GLANCE])) > count:
        return False
    levels, codes = np.unique(values, return_inverse=True)  # missing is a level too
    return len(levels) == count and len(np.unique(codes * count + y)) == count


def _is_line(values: Array, y: Array) -> bool:
    """Whether one is a multiple of the other, and a constant more."""
    if np.isnan(values).any() or values.std() == 0:
        return False
    return 1 - abs(float(np.corrcoef(values, y)[0, 1])) < _LINE
