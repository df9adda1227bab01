"""Findings about the target: how the task was told, classes that are rare, rows that are few."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from nasfast.tables.checks.finding import Finding
from nasfast.tables.target import Target, class_counts

_FEW_ROWS = 50
_RARE_ROWS = 10  # of a class: fewer than two for each of five folds
_RARE = 0.1  # share of the smaller class
_SKEWED = 2.0  # skewness of a target whose logarithm is the better scale
_SHOWN = 5


def find_in_target(target: Target, features: int) -> Iterator[Finding]:
    """Findings about a target and the size of its table."""
    rows = len(target.y)
    if target.dropped:
        yield Finding("info", target.name, f"{target.dropped:,} rows have no target and are left out")
    for other in target.alternatives:
        yield Finding(
            "info", target.name, f"taken as {target.task}: {target.reason}", f"--task {other} is possible too"
        )
    if rows < _FEW_ROWS:
        yield Finding("warning", "", f"{rows} rows: scores will be uncertain", f"{_FEW_ROWS} rows and more tell more")
    if features >= rows:
        yield Finding(
            "warning", "", f"{features:,} columns and {rows:,} rows: chance alone fits them", "leave out columns"
        )
    if target.task == "regression":
        yield from _scale(target)
    else:
        yield from _classes(target)


def _classes(target: Target) -> Iterator[Finding]:
    counts = class_counts(target)
    rare = [(name, int(count)) for name, count in zip(target.classes, counts, strict=True) if count < _RARE_ROWS]
    if rare:
        few = ", ".join(f"{name} ({count})" for name, count in rare[:_SHOWN]) + (" ..." if len(rare) > _SHOWN else "")
        yield Finding("warning", target.name, f"classes of few rows: {few}", "collect more, or join them with others")
    if target.task == "multilabel":
        return
    most, least = int(counts.max()), int(counts.min())
    total = int(counts.sum())
    if least < _RARE * total / (len(counts) / 2):
        names = target.classes[int(counts.argmin())], target.classes[int(counts.argmax())]
        yield Finding(
            "warning",
            target.name,
            f"imbalanced: {least / total:.1%} of the rows are {names[0]}; who always says {names[1]} is right in "
            f"{most / total:.1%}",
            "accuracy says little here: --metric roc_auc or log_loss",
        )


def _scale(target: Target) -> Iterator[Finding]:
    y = target.y
    deviation = float(y.std())
    if y.min() > 0 and deviation > 0 and float(np.mean(((y - y.mean()) / deviation) ** 3)) > _SKEWED:
        yield Finding(
            "info", target.name, f"skewed: the median is {np.median(y):g}, the largest {y.max():g}, and none is below 0"
        )
