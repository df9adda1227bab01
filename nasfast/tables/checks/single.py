"""How well one column alone tells the target, on rows that were not looked at: a group's share, or a small tree."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np

from nasfast.tables.checks.features import Feature

_FOLDS = 3
_LEAVES = 64
_LEAST_IN_LEAF = 5
_PRIOR = 1.0  # rows of the whole that count in each group

Array = np.ndarray[Any, Any]


def class_skill(feature: Feature, y: Array, classes: int) -> float:
    """How well one column tells classes out of fold, 0 as chance and 1 as always.

    Of two classes twice the area under the ROC curve above one half; of more, the mean share of each class that is
    told, above chance.
    """
    shares = np.zeros((len(y), classes))
    for train, test in folds(len(y)):
        shares[test] = _class_shares(feature, y, classes, train, test)
    if classes == 2:
        return 2 * roc_area(y == 1, shares[:, 1]) - 1
    told = shares.argmax(1) == y
    recall = np.mean([told[y == code].mean() for code in np.unique(y)])
    return float((recall - 1 / classes) / (1 - 1 / classes))


def value_skill(feature: Feature, y: Array) -> float:
    """The share of the variance of numbers that one column tells out of fold; below 0 where it is worse than none."""
    found = np.zeros(len(y))
    for train, test in folds(len(y)):
        found[test] = _mean_values(feature, y, train, test)
    total = float(np.sum((y - y.mean()) ** 2))
    return 1 - float(np.sum((y - found) ** 2)) / total if total > 0 else 0.0


def roc_area(positive: Array, scores: Array) -> float:
    """The area under the ROC curve, ties counted as half; one half where a class is absent."""
    from scipy.stats import rankdata

    count = int(positive.sum())
    others = len(positive) - count
    if not count or not others:
        return 0.5
    ranks = rankdata(scores)
    return float((ranks[positive].sum() - count * (count + 1) / 2) / (count * others))


def folds(rows: int) -> Iterator[tuple[Array, Array]]:
    """Rows to learn from and rows to test on, the same ones every time."""
    part = np.random.default_rng(0).permutation(rows) % _FOLDS
    for index in range(_FOLDS):
        yield np.flatnonzero(part != index), np.flatnonzero(part == index)


def _class_shares(feature: Feature, y: Array, classes: int, train: Array, test: Array) -> Array:
    if feature.is_code:
        groups = feature.codes
        size = int(groups.max()) + 1
        counts = np.bincount(groups[train] * classes + y[train], minlength=size * classes).reshape(size, classes)
        prior = np.bincount(y[train], minlength=classes) / len(train)
        shares = (counts + _PRIOR * prior) / (counts.sum(1, keepdims=True) + _PRIOR)
        return np.asarray(shares[groups[test]])
    from sklearn.tree import DecisionTreeClassifier

    tree = DecisionTreeClassifier(max_leaf_nodes=_LEAVES, min_samples_leaf=_LEAST_IN_LEAF, random_state=0)
    values = feature.values[:, None]
    tree.fit(values[train], y[train])
    found = np.zeros((len(test), classes))
    found[:, tree.classes_] = tree.predict_proba(values[test])
    return found


def _mean_values(feature: Feature, y: Array, train: Array, test: Array) -> Array:
    if feature.is_code:
        groups = feature.codes
        size = int(groups.max()) + 1
        counts = np.bincount(groups[train], minlength=size)
        sums = np.bincount(groups[train], y[train], minlength=size)
        return np.asarray(((sums + _PRIOR * y[train].mean()) / (counts + _PRIOR))[groups[test]])
    from sklearn.tree import DecisionTreeRegressor

    tree = DecisionTreeRegressor(max_leaf_nodes=2 * _LEAVES, min_samples_leaf=_LEAST_IN_LEAF, random_state=0)
    values = feature.values[:, None]
    return np.asarray(tree.fit(values[train], y[train]).predict(values[test]))
