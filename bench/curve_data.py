"""Real learning curves, read from files that are not part of nasfast, and how they are split.

NAAP-440 (Hakim, 2023): networks trained for 90 epochs on CIFAR-10, with its own split. LCDB (Mohr, Viering, Loog, van
Rijn, ECML 2022): learners of scikit-learn, accuracy against the size of the training set, split here by data set.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TypeAlias

import numpy as np

from bench.arrays import read_arrays
from nasfast.estimators.curves.families import Floats

FEWEST_ANCHORS = 8
"""Sizes that a curve of LCDB must have been measured at."""

_SPLIT_SEED = 0  # of LCDB's halves, and of folds
_VALID = 1  # column of LCDB's values


@dataclass(frozen=True)
class Curves:
    """Finished curves with the same times.

    Attributes:
        values: float64 [K, T]; NaN where nothing was measured, but not at the end.
        times: float64 [T].
        features: Of the architectures, float64 [K, F].
    """

    values: Floats
    times: Floats
    features: Floats

    def seen(self, share: float) -> tuple[Floats, Floats, Floats]:
        """Curves up to a share of their times, those times, and the last values [K]; those that can be extrapolated.

        A curve counts that has three values seen, the last time seen among them: there, the last seen value is fresh.
        """
        count = max(3, round(share * len(self.times)))
        part = self.values[:, :count]
        usable = ((~np.isnan(part)).sum(1) >= 3) & ~np.isnan(part[:, -1])
        return part[usable], self.times[:count], self.values[usable, -1]


Split: TypeAlias = tuple[list[Curves], list[Curves]]
"""Training and test curves."""


def folds(split: Split, count: int) -> list[Split]:
    """Cross-validation over all curves of a split of one collection: each is a test curve once."""
    first, second = split[0][0], split[1][0]
    values, features = np.concatenate([first.values, second.values]), np.concatenate([first.features, second.features])
    fold = np.random.default_rng(_SPLIT_SEED).permutation(len(values)) % count

    def part(rows: np.ndarray) -> list[Curves]:
        return [Curves(values[rows], first.times, features[rows])]

    return [(part(fold != i), part(fold == i)) for i in range(count)]


def read_naap(path: Path) -> Split:
    """Training and test curves of NAAP-440: test accuracy after each epoch; the networks' features.

    Raises:
        DataError: The file is not that.
    """
    table = read_arrays(path, ("test_acc", "features", "is_test"))
    test = table["is_test"].astype(bool)
    values, features = table["test_acc"].astype(float), table["features"].astype(float)
    times = np.arange(1.0, values.shape[1] + 1)
    return [Curves(values[~test], times, features[~test])], [Curves(values[test], times, features[test])]


def read_lcdb(path: Path) -> Split:
    """Validation accuracies of LCDB: one half of the data sets, chosen by chance once and for all, and the other half.

    A group is what one data set's learners have in common; time is the size in units of the smallest.

    Raises:
        DataError: The file is not that.
    """
    table = read_arrays(path, ("learners", "openml_id", "learner", "size_train", "values"))
    ids = np.unique(table["openml_id"])
    order = np.random.default_rng(_SPLIT_SEED).permutation(ids)
    first = set(order[: len(ids) // 2].tolist())
    halves: tuple[list[Curves], list[Curves]] = ([], [])
    for data in ids.tolist():
        rows = np.flatnonzero(table["openml_id"] == data)
        sizes = np.unique(table["size_train"][rows])
        values = np.full((len(table["learners"]), len(sizes)), np.nan)
        places = table["learner"][rows], np.searchsorted(sizes, table["size_train"][rows])
        values[places] = table["values"][rows, _VALID]
        halves[data not in first].extend(_by_last(values, sizes / sizes[0]))
    return halves


def _by_last(values: Floats, times: Floats) -> list[Curves]:
    """Curves grouped by where they end."""
    there = ~np.isnan(values)
    lasts = np.where(there.any(1), values.shape[1] - there[:, ::-1].argmax(1), 0)
    groups = []
    for last in np.unique(lasts[lasts >= FEWEST_ANCHORS]).tolist():
        part = values[lasts == last, :last]
        groups.append(Curves(part, times[:last], np.zeros((len(part), 0))))
    return groups
