"""From the root of every tree to the leaf that a row ends in."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

Places = NDArray[np.intp]


class Walk:
    """Splits in the form that is walked fastest; for the arguments see :class:`nasfast.automl.trees.Trees`.

    Args:
        goes_left: bool [sets, codes].
    """

    def __init__(
        self,
        feature: NDArray[np.int32],
        threshold: NDArray[np.float64],
        left: NDArray[np.int32],
        right: NDArray[np.int32],
        missing_left: NDArray[np.bool_],
        category_set: NDArray[np.int32],
        goes_left: NDArray[np.bool_],
        offsets: NDArray[np.int64],
    ) -> None:
        # NumPy would turn other integers into places at every step.
        self._feature, self._set = feature.astype(np.intp), category_set.astype(np.intp)
        self._next = np.stack([right, left], axis=1).astype(np.intp).reshape(-1)
        self._threshold, self._missing_left, self._leaf = threshold, missing_left, left < 0
        self._roots, self._codes, self._goes_left = (
            offsets[:-1].astype(np.intp),
            goes_left.shape[1],
            goes_left.reshape(-1),
        )

    def leaves(self, x: NDArray[np.float64]) -> Places:
        """The leaf of each tree and row [trees * rows] of x [rows, features].

        All pairs of a tree and a row go down together; those that have reached a leaf stop.
        """
        rows, features = x.shape
        values = np.ascontiguousarray(x).reshape(-1)
        has_missing = bool(np.isnan(values).any())
        node = np.repeat(self._roots, rows)
        row = np.tile(np.arange(rows) * features, len(self._roots))
        found, pair = node.copy(), np.arange(len(node))
        while True:
            below = np.flatnonzero(~self._leaf.take(node))
            if len(below) < len(node):
                found[pair] = node
                node, row, pair = node.take(below), row.take(below), pair.take(below)
            if not len(node):
                return found
            value = values.take(row + self._feature.take(node))
            node = self._next.take(2 * node + self._to_left(node, value, has_missing))

    def _to_left(self, node: Places, value: NDArray[np.float64], has_missing: bool) -> NDArray[np.bool_]:
        left = value <= self._threshold.take(node)
        if has_missing:
            missing = np.flatnonzero(np.isnan(value))
            left[missing] = self._missing_left.take(node.take(missing))
        if len(self._goes_left):
            chosen = self._set.take(node)
            by_set = np.flatnonzero(chosen >= 0)
            codes = value.take(by_set).astype(np.intp)
            left[by_set] = self._goes_left.take(chosen.take(by_set) * self._codes + codes)
        return left
