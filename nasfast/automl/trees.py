"""Trees as plain arrays: grown by scikit-learn, stored and walked without it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.special import expit, softmax

from nasfast.automl.prepare import Prepared
from nasfast.automl.tree_checks import CODES, checked_arrays
from nasfast.automl.tree_models import read_boosting, read_forest
from nasfast.automl.tree_walk import Walk
from nasfast.errors import ShapeError

_PAIRS = 1 << 16  # of a row and a tree that are walked at a time: what they need stays in the cache


@dataclass(frozen=True)
class Trees:
    """Trees whose leaves are added up.

    Nodes of all trees stand one after the other, the root of a tree first and every child after its parent; they are
    numbered through. A row goes left where its value is at most the threshold, where it is missing and the node sends
    missing values left, or where its code is in the node's set of categories.

    Attributes:
        feature: int32 [nodes]: column of [numbers | codes] that a node looks at; 0 for leaves.
        threshold: float64 [nodes].
        left: int32 [nodes]: next node; -1 for leaves.
        right: int32 [nodes].
        missing_left: bool [nodes]: where missing numbers go.
        category_set: int32 [nodes]: which of the sets decides; -1 where the threshold does.
        value: float64 [nodes, W]: what a leaf adds to ``W`` neighbouring outputs; learning rates are applied already.
        category_sets: uint8 [sets, 32]: the codes that go left, a bit each, lowest bit first.
        offsets: int64 [trees + 1]: first node of each tree, and the number of nodes.
        output: int32 [trees]: first output that a tree adds to.
        baseline: float64 [K]: outputs without any tree.
        features: int64 [2]: how many numbers and how many codes a row has.
    """

    feature: NDArray[np.int32]
    threshold: NDArray[np.float64]
    left: NDArray[np.int32]
    right: NDArray[np.int32]
    missing_left: NDArray[np.bool_]
    category_set: NDArray[np.int32]
    value: NDArray[np.float64]
    category_sets: NDArray[np.uint8]
    offsets: NDArray[np.int64]
    output: NDArray[np.int32]
    baseline: NDArray[np.float64]
    features: NDArray[np.int64]

    @classmethod
    def of(cls, model: Any, iterations: int | None = None) -> Trees:
        """Those of a fitted HistGradientBoostingClassifier or HistGradientBoostingRegressor.

        Args:
            model: Trained on [numbers | codes], the codes as categorical features.
            iterations: Take only the first so many; all by default.

        Raises:
            ConfigError: Not such a model, another loss than the usual ones, or a scikit-learn that keeps trees
                otherwise.
        """
        return cls(**read_boosting(model, iterations))

    @classmethod
    def of_forest(cls, model: Any, codes: int = 0) -> Trees:
        """Those of a fitted random forest or extra trees: outputs are probabilities of classes, or a number.

        Args:
            model: Trained on [numbers | codes], all of them as numbers.
            codes: How many of the features are codes.

        Raises:
            ConfigError: Not such a model, or one of several targets.
        """
        return cls(**read_forest(model, codes))

    @classmethod
    def from_arrays(cls, arrays: Mapping[str, NDArray[Any]]) -> Trees:
        """Those that :meth:`to_arrays` gave.

        Raises:
            RunError: An array is missing, not known, or holds what no trees have.
        """
        return cls(**checked_arrays(arrays, [field.name for field in fields(cls)]))

    def to_arrays(self) -> dict[str, NDArray[Any]]:
        """All arrays, by name."""
        return {field.name: getattr(self, field.name) for field in fields(self)}

    def __len__(self) -> int:
        return len(self.output)

    @property
    def is_leaf(self) -> NDArray[np.bool_]:
        """Of each node."""
        return self.left < 0

    @cached_property
    def goes_left(self) -> NDArray[np.bool_]:
        """[sets, codes]: whether a code is in a set."""
        return np.unpackbits(self.category_sets, axis=1, count=CODES, bitorder="little").astype(bool)

    @cached_property
    def _walk(self) -> Walk:
        splits = self.feature, self.threshold, self.left, self.right, self.missing_left, self.category_set
        return Walk(*splits, self.goes_left, self.offsets)

    def raw(self, prepared: Prepared) -> NDArray[np.float64]:
        """Outputs [N, K]: one logit of two classes, one per class of more, or a number; probabilities of a forest.

        Raises:
            ShapeError: The table has not the columns that the trees were grown on.
        """
        self._check(prepared)
        out = np.tile(self.baseline, (len(prepared.numbers), 1))
        rows = max(_PAIRS // max(len(self), 1), 1)
        for start in range(0, len(out) if len(self) else 0, rows):
            block = slice(start, start + rows)
            x = np.concatenate([prepared.numbers[block], prepared.codes[block]], axis=1, dtype=np.float64)
            self._add_leaves(x, out[block])
        return out

    def probabilities(self, prepared: Prepared) -> NDArray[np.float64]:
        """Of classes [N, classes]; only for trees of a classifier.

        Raises:
            ShapeError: The table has not the columns that the trees were grown on.
        """
        raw = self.raw(prepared)
        if self.value.shape[1] > 1:  # a forest's leaves hold probabilities
            return raw
        if raw.shape[1] > 1:
            return np.asarray(softmax(raw, axis=1))
        p = expit(raw)
        return np.concatenate([1 - p, p], axis=1)

    def _check(self, prepared: Prepared) -> None:
        got = prepared.numbers.shape[1], prepared.codes.shape[1]
        if got != tuple(self.features):
            numbers, codes = self.features
            raise ShapeError(f"trees were grown on {numbers} numbers and {codes} codes, got {got[0]} and {got[1]}")
        if prepared.codes.size and not 0 <= prepared.codes.min() <= prepared.codes.max() < CODES:
            raise ShapeError(
                f"codes must be from 0 to {CODES - 1}, got {prepared.codes.min()} to {prepared.codes.max()}"
            )

    def _add_leaves(self, x: NDArray[np.float64], out: NDArray[np.float64]) -> None:
        """Add to outputs [rows, K] the leaves that rows [rows, features] end in."""
        values = self.value[self._walk.leaves(x)].reshape(len(self), len(x), -1)
        width = values.shape[2]
        for first in np.unique(self.output):
            # Over the trees in their order, the way scikit-learn adds them.
            out[:, first : first + width] += values[self.output == first].sum(axis=0)
