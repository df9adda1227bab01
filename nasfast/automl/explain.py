"""What each column adds to a prediction: Shapley values, sampled.

A permutation of the columns turns a background row into the explained one, column by column; what a column's turn
changes is its contribution (Castro et al. 2009). Every permutation is walked in its reverse too (Mitchell et al. 2022).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
from numpy.typing import NDArray

from nasfast.automl.prepare import Prepared
from nasfast.automl.problem import Array
from nasfast.automl.sources import Source, owners

MOST_BACKGROUND = 100
_EVALUATIONS = 2_000  # of the model, about, for each explained row
_LEAST_PAIRS, _MOST_PAIRS = 4, 50
_BATCH = 16_384  # rows that are predicted at a time

Predict = Callable[[Prepared], Array]
Bools = NDArray[np.bool_]


def background_of(prepared: Prepared, seed: int) -> Prepared:
    """Rows that stand for the table: drawn, and at most so many."""
    drawn = np.random.default_rng([seed, 31]).permutation(len(prepared))[:MOST_BACKGROUND]
    return prepared.take(np.sort(drawn))


def shapley_values(
    predict: Predict, prepared: Prepared, background: Prepared, sources: Sequence[Source], seed: int = 0
) -> Array:
    """Contributions [N, sources, outputs]; over the sources they sum to the prediction minus the background's mean.

    All rows go through the same permutations, so that a row's values do not depend on the rows beside it.

    Args:
        predict: Predictions [N, outputs] of rows.
        prepared: Rows [N] to explain.
        background: Rows whose mean prediction is what is explained against.
    """
    walks = _Walks(len(sources), len(background), seed)
    owner = owners(tuple(sources), prepared)
    base = predict(background)
    size = max(_BATCH // max(walks.steps, 1), 1)
    parts = [
        _explained(predict, prepared.take(np.arange(at, min(at + size, len(prepared)))), background, base, walks, owner)
        for at in range(0, len(prepared), size)
    ]
    return np.concatenate(parts) if parts else np.empty((0, len(sources), base.shape[1]))


class _Walks:
    """Permutations of columns in pairs, and the background row that each begins with.

    Attributes:
        orders: [walks, columns].
        starts: Background row of each walk.
        taken: [walks, columns - 1, columns]: which columns are the explained row's within a walk.
    """

    def __init__(self, columns: int, background: int, seed: int) -> None:
        rng = np.random.default_rng([seed, 32])
        pairs = int(np.clip(_EVALUATIONS // (2 * max(columns, 1)), _LEAST_PAIRS, _MOST_PAIRS))
        forward = np.stack([rng.permutation(columns) for _ in range(pairs)])
        self.orders = np.stack([forward, forward[:, ::-1]], axis=1).reshape(2 * pairs, columns)
        rows = np.concatenate([rng.permutation(background) for _ in range(pairs // background + 1)])
        self.starts = np.repeat(rows[:pairs], 2)
        turns = np.empty_like(self.orders)
        np.put_along_axis(turns, self.orders, np.arange(columns)[None], axis=1)
        self.taken: Bools = turns[:, None, :] <= np.arange(columns - 1)[None, :, None]

    @property
    def steps(self) -> int:
        """Predictions within all walks, without their ends."""
        return int(np.prod(self.taken.shape[:2]))


def _explained(
    predict: Predict,
    rows: Prepared,
    background: Prepared,
    base: Array,
    walks: _Walks,
    owner: tuple[NDArray[np.int64], NDArray[np.int64]],
) -> Array:
    count, (many, columns) = len(rows), walks.orders.shape
    own = predict(rows)
    values = np.empty((count, many, columns + 1, base.shape[1]))
    values[:, :, 0], values[:, :, -1] = base[walks.starts], own[:, None]
    values[:, :, 1:-1] = _within(predict, rows, background, walks, owner).reshape(
        count, many, columns - 1, base.shape[1]
    )
    changes = np.diff(values, axis=2)
    by_column = np.empty_like(changes)
    np.put_along_axis(by_column, walks.orders[None, :, :, None], changes, axis=2)
    pairs = by_column.reshape(count, many // 2, 2, columns, -1).mean(axis=2)
    return _completed(pairs, own - base.mean(axis=0))


def _within(
    predict: Predict,
    rows: Prepared,
    background: Prepared,
    walks: _Walks,
    owner: tuple[NDArray[np.int64], NDArray[np.int64]],
) -> Array:
    """Predictions [rows * steps, outputs] of what is part explained row and part background."""
    steps, columns = walks.steps, walks.orders.shape[1]
    taken = walks.taken.reshape(steps, columns)
    start = background.take(np.repeat(walks.starts, columns - 1))
    numbers = np.where(taken[:, owner[0]], rows.numbers[:, None], start.numbers)
    codes = np.where(taken[:, owner[1]], rows.codes[:, None], start.codes)
    count = len(rows) * steps
    mixed = Prepared(numbers.reshape(count, numbers.shape[2]), codes.reshape(count, codes.shape[2]))
    parts = [predict(mixed.take(np.arange(at, min(at + _BATCH, len(mixed))))) for at in range(0, len(mixed), _BATCH)]
    return np.concatenate(parts) if parts else np.empty((0, 1))


def _completed(pairs: Array, total: Array) -> Array:
    """The mean [N, columns, outputs] over pairs [N, pairs, columns, outputs], with the sum that it would have of all.

    A sample of background rows has another mean than all of them. The rest goes to the columns by how unsure their
    means are, so that a column that never changes anything keeps 0.
    """
    found = pairs.mean(axis=1)
    rest = total - found.sum(axis=1)
    unsure = pairs.var(axis=1)
    whole = unsure.sum(axis=1, keepdims=True)
    share = np.divide(unsure, whole, out=np.full_like(unsure, 1 / unsure.shape[1]), where=whole > 0)
    return found + share * rest[:, None]
