"""Whether parts of a table, such as its files, come from one source: a classifier that tells them apart says no."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np

from nasfast.tables.checks.features import Feature, row_hashes
from nasfast.tables.checks.finding import Finding, types_option
from nasfast.tables.checks.single import class_skill, folds, roc_area

_MOST_ROWS = 4_000  # of each part
_LEAST_ROWS = 20
_MOST_PARTS = 8
_SURE = 3.0  # standard errors above chance
_DRIFT, _STRONG = 0.6, 0.75  # area under the ROC curve
_SHOWN = 3

Array = np.ndarray[Any, Any]


def find_drift(features: list[Feature], part: Array, names: Sequence[str]) -> Iterator[Finding]:
    """A finding for each part that a classifier tells from the others.

    Args:
        part: For each row, int64 [N], the index of its part.
        names: Of the parts.
    """
    counts = np.bincount(part, minlength=len(names))
    usual = [f for f in features if not f.is_text]
    large = [index for index in np.argsort(-counts, kind="stable")[:_MOST_PARTS] if counts[index] >= _LEAST_ROWS]
    if len(large) < 2 or not usual:
        return
    rows = np.concatenate([_some(np.flatnonzero(part == index)) for index in large])
    matrix = np.stack([f.values[rows] for f in usual], axis=1)
    for index in large[1:] if len(large) == 2 else large:
        here = part[rows] == index
        area = _area(matrix, here)
        error = np.sqrt((len(here) + 1) / (12.0 * here.sum() * (~here).sum()))
        if area > _DRIFT and area - _SURE * error > 0.5:
            yield _finding(str(names[index]), area, _columns(usual, rows, here))


def find_shared_rows(features: list[Feature], part: Array, names: Sequence[str]) -> Iterator[Finding]:
    """A finding for each part that has rows of the largest other part before it."""
    if not features:
        return
    hashes = row_hashes([feature.values for feature in features])
    for index in range(1, len(names)):
        own = hashes[part == index]
        shared = int(np.isin(own, hashes[part < index]).sum())
        if shared:
            yield Finding(
                "warning",
                "",
                f"{shared:,} of {len(own):,} rows of {names[index]} have the features of a row before",
                "a test on rows that were trained on says nothing",
            )


def _finding(name: str, area: float, columns: list[tuple[str, float]]) -> Finding:
    told = ", ".join(f"{column} ({found:.2f})" for column, found in columns)
    advice = f"look at {told}" if told else "no single column tells them apart"
    if columns and columns[0][1] > _STRONG:
        advice += f"; {types_option(columns[0][0], 'ignored')} leaves one out"
    return Finding(
        "warning" if area > _STRONG else "info",
        "",
        f"rows of {name} differ from the others: a classifier tells them apart with an area of {area:.2f} under the "
        "ROC curve (0.5 is chance)",
        advice,
    )


def _some(rows: Array) -> Array:
    if len(rows) <= _MOST_ROWS:
        return rows
    return np.random.default_rng(0).choice(rows, _MOST_ROWS, replace=False)


def _area(matrix: Array, here: Array) -> float:
    from sklearn.ensemble import HistGradientBoostingClassifier

    scores = np.zeros(len(here))
    for train, test in folds(len(here)):
        model = HistGradientBoostingClassifier(max_iter=30, max_leaf_nodes=15, early_stopping=False, random_state=0)
        model.fit(matrix[train], here[train])
        scores[test] = model.predict_proba(matrix[test])[:, 1]
    return roc_area(here, scores)


def _columns(features: list[Feature], rows: Array, here: Array) -> list[tuple[str, float]]:
    """The columns that tell a part apart by themselves, best first, with their area under the ROC curve."""
    areas = [(f.name, (1 + class_skill(f.take(rows), here.astype(np.int64), 2)) / 2) for f in features]
    told = sorted((pair for pair in areas if pair[1] > _DRIFT), key=lambda pair: -pair[1])
    return told[:_SHOWN]
