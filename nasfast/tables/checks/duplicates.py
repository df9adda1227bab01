"""Rows that are there twice, and columns that say the same."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator
from typing import Any

import numpy as np

from nasfast.tables.checks.features import Feature, row_hashes, some_rows
from nasfast.tables.checks.finding import Finding, types_option

_SOME = 0.01  # share of the rows from which on copies matter
_GLANCE = 64  # rows by which most columns differ
_COMPARED_ROWS = 5_000
_MOST_COLUMNS = 1_000
_SAME_ORDER = 0.9999  # rank correlation of columns that say the same

Array = np.ndarray[Any, Any]


def find_same_rows(features: list[Feature], y: Array) -> Iterator[Finding]:
    """Findings about rows whose features are those of another row; ``y`` [N] or [N, labels]."""
    if not features or len(y) < 2:
        return
    hashes = row_hashes([feature.values for feature in features])
    labels = [column.astype(np.float64) for column in (y.T if y.ndim == 2 else y[None])]
    whole = row_hashes(labels, hashes)
    copies = len(y) - len(np.unique(whole))
    if copies:
        share = copies / len(y)
        yield Finding(
            "warning" if share >= _SOME else "info",
            "",
            f"{copies:,} rows ({share:.1%}) are copies of others, target included",
            "copies in training and test make scores too good; --group keeps rows that belong together apart",
        )
    alike = len(y) - len(np.unique(hashes)) - copies
    if alike:
        share = alike / len(y)
        yield Finding(
            "warning" if share >= _SOME else "info",
            "",
            f"{alike:,} rows ({share:.1%}) have the features of another row and another target",
            "no model can tell them apart",
        )


def find_same_columns(features: list[Feature]) -> Iterator[Finding]:
    """A finding for each column that says what an earlier one says."""
    if not features:
        return
    rows = some_rows(len(features[0].values), _COMPARED_ROWS)
    numbers = [feature.take(rows) for feature in features if not feature.is_code][:_MOST_COLUMNS]
    codes = [feature for feature in features if feature.is_code and not feature.is_text]
    for name, other in [*_same_numbers(numbers), *_same_codes(codes)]:
        yield Finding(
            "info",
            name,
            f"says nearly the same as {other}",
            f"one of them is enough: {types_option(name, 'ignored')}",
        )


def _same_numbers(features: list[Feature]) -> Iterator[tuple[str, str]]:
    if len(features) < 2 or len(features[0].values) < 3:
        return
    from scipy.stats import rankdata

    ranks = np.stack([rankdata(np.where(np.isnan(f.values), -np.inf, f.values)) for f in features])
    ranks -= ranks.mean(1, keepdims=True)
    length = np.sqrt((ranks**2).sum(1, keepdims=True))
    ranks /= np.where(length > 0, length, np.inf)
    same = np.abs(ranks @ ranks.T) > _SAME_ORDER
    for index, feature in enumerate(features):
        earlier = np.flatnonzero(same[index, :index])
        if earlier.size:
            yield feature.name, features[int(earlier[0])].name


def _same_codes(features: list[Feature]) -> Iterator[tuple[str, str]]:
    """Codes are given in the order in which values occur, so that they are equal where the values go together."""
    first: dict[bytes, list[Feature]] = defaultdict(list)
    for feature in features:
        alike = first[feature.values[:_GLANCE].tobytes()]
        other = next((one for one in alike if np.array_equal(one.values, feature.values, equal_nan=True)), None)
        if other is not None:
            yield feature.name, other.name
        alike.append(feature)
