"""Partial dependence (Friedman 2001): the mean prediction were a column the same in every row."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from nasfast.automl.diagnosis.labels import Labels
from nasfast.automl.diagnosis.numbers import short, shorts
from nasfast.automl.diagnosis.timer import Timer
from nasfast.automl.prepare import Prepared
from nasfast.automl.problem import Array
from nasfast.automl.sources import Source

MOST_POINTS = 30
_MOST_LEVELS = 15
_MOST_COLUMNS = 8
_MOST_OUTPUTS = 6

Predict = Callable[[Prepared], Array]


def partial_dependence(
    predict: Predict,
    background: Prepared,
    prepared: Prepared,
    sources: Sequence[Source],
    labels: Labels,
    timer: Timer,
) -> list[dict[str, Any]]:
    """Of the first columns that have an order or levels, as far as the time goes.

    Args:
        background: Rows whose predictions are averaged.
        prepared: All rows: values are taken from them, with all that is made of each (the weekday of a date).
        sources: The most important first.
    """
    found = []
    for source in [s for s in sources if s.kind != "text"][:_MOST_COLUMNS]:
        if timer.is_over():
            break
        rows = _grid(source, prepared)
        if len(rows) > 1:
            found.append(_curve(source, prepared.take(rows), predict, background, labels))
    return found


def _grid(source: Source, prepared: Prepared) -> NDArray[np.int64]:
    """Rows that have the values to look at: quantiles of a number or date, the most frequent levels of a category."""
    if source.codes:
        codes = prepared.codes[:, source.codes[0]]
        _, rows, counts = np.unique(codes, return_index=True, return_counts=True)
        return rows[np.sort(np.argsort(-counts, kind="stable")[:_MOST_LEVELS])]
    values = prepared.numbers[:, source.numbers[0]]
    known = np.flatnonzero(np.isfinite(values))
    order = known[np.argsort(values[known], kind="stable")]
    if not len(order):
        return order
    distinct, first = np.unique(values[order], return_index=True)
    if len(distinct) > MOST_POINTS:
        first = np.unique(np.searchsorted(distinct, values[order[_spread(len(order))]]))
        return order[np.searchsorted(values[order], distinct[first])]
    return order[first]


def _spread(rows: int) -> NDArray[np.int64]:
    return np.linspace(0, rows - 1, MOST_POINTS).round().astype(np.int64)


def _curve(source: Source, values: Prepared, predict: Predict, background: Prepared, labels: Labels) -> dict[str, Any]:
    grid, rows = len(values), len(background)
    changed = background.take(np.tile(np.arange(rows), grid))  # a copy
    source.put(changed, values.take(np.repeat(np.arange(grid), rows)))
    means = predict(changed).reshape(grid, rows, -1).mean(axis=1)
    outputs = [1] if means.shape[1] == 2 else list(range(min(means.shape[1], _MOST_OUTPUTS)))
    if source.codes:
        x: list[Any] = [labels.level(source, int(code)) for code in values.codes[:, source.codes[0]]]
    else:
        x = [short(value) for value in values.numbers[:, source.numbers[0]]]
    return {
        "column": source.name,
        "kind": "category" if source.codes else "date" if labels.has_days(source) else "number",
        "x": x,
        "outputs": [{"output": output, "y": shorts(means[:, output])} for output in outputs],
    }
