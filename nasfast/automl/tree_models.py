"""Reads the trees of scikit-learn's fitted models into arrays (see :class:`nasfast.automl.trees.Trees`).

Of forests only public attributes are read. Boosting keeps its trees in private ones: ``_predictors`` (a list per
iteration of a tree per output, each with ``nodes`` and ``raw_left_cat_bitsets``), ``_baseline_prediction``, and
``_preprocessor``, which puts categorical features first and maps their values to 0, 1, ... in rising order. What is not
there as expected is an error: trees that were read otherwise would predict something else.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import sklearn
from numpy.typing import NDArray
from sklearn.ensemble import (
    ExtraTreesClassifier,
    ExtraTreesRegressor,
    HistGradientBoostingClassifier,
    HistGradientBoostingRegressor,
    RandomForestClassifier,
    RandomForestRegressor,
)

from nasfast.automl.tree_checks import CODES
from nasfast.errors import ConfigError

_NODE_FIELDS = (
    *("value", "feature_idx", "num_threshold", "missing_go_to_left", "left", "right", "is_leaf"),
    *("is_categorical", "bitset_idx"),
)
_MODEL_FIELDS = ("_predictors", "_baseline_prediction", "_preprocessor", "is_categorical_", "n_features_in_")
_PLAIN_LOSSES = ("squared_error", "absolute_error", "quantile")
_WORD = 32  # bits of scikit-learn's sets

Arrays = dict[str, NDArray[Any]]


def read_boosting(model: Any, iterations: int | None) -> Arrays:
    """Arrays of a HistGradientBoosting model.

    Raises:
        ConfigError: See :meth:`nasfast.automl.trees.Trees.of`.
    """
    _check_boosting(model, iterations)
    columns, categories = _columns(model)
    trees = [tree for iteration in model._predictors[:iterations] for tree in iteration]
    baseline = np.array(model._baseline_prediction, np.float64).reshape(-1)
    nodes, offsets = _joined_nodes(trees)
    leaf = nodes["is_leaf"].astype(bool)
    first = np.repeat(offsets[:-1], np.diff(offsets))
    by_set = nodes["is_categorical"].astype(bool) & ~leaf
    feature = np.where(leaf, 0, columns[nodes["feature_idx"]])
    return {
        "feature": feature.astype(np.int32),
        "threshold": np.where(leaf | by_set, 0.0, nodes["num_threshold"]),
        "left": np.where(leaf, -1, first + nodes["left"]).astype(np.int32),
        "right": np.where(leaf, -1, first + nodes["right"]).astype(np.int32),
        "missing_left": nodes["missing_go_to_left"].astype(bool) & ~leaf & ~by_set,
        "category_set": np.where(by_set, np.cumsum(by_set) - 1, -1).astype(np.int32),
        "value": np.where(leaf, nodes["value"], 0.0)[:, None],
        "category_sets": _category_sets(trees, nodes[by_set], categories),
        "offsets": offsets,
        "output": np.resize(np.arange(len(baseline), dtype=np.int32), len(trees)),
        "baseline": baseline,
        "features": np.array([model.n_features_in_ - len(categories), len(categories)], np.int64),
    }


def read_forest(model: Any, codes: int) -> Arrays:
    """Arrays of a random forest or extra trees.

    Raises:
        ConfigError: See :meth:`nasfast.automl.trees.Trees.of_forest`.
    """
    known = (ExtraTreesClassifier, ExtraTreesRegressor, RandomForestClassifier, RandomForestRegressor)
    if not isinstance(model, known) or not hasattr(model, "estimators_") or model.n_outputs_ != 1:
        raise ConfigError(
            f"expected a fitted RandomForest or ExtraTrees model of scikit-learn with one target, got {model!r:.80}"
        )
    if not 0 <= codes <= model.n_features_in_:
        raise ConfigError(f"codes must be from 0 to the {model.n_features_in_} features of the model, got {codes}")
    trees = [estimator.tree_ for estimator in model.estimators_]
    offsets = np.concatenate([[0], np.cumsum([tree.node_count for tree in trees])]).astype(np.int64)
    first = np.repeat(offsets[:-1], np.diff(offsets))

    def joined(name: str) -> NDArray[Any]:
        return np.concatenate([getattr(tree, name) for tree in trees])

    left, right = joined("children_left"), joined("children_right")
    leaf, values = left < 0, joined("value")[:, 0, :]
    if hasattr(model, "classes_"):
        values = values / values.sum(axis=1, keepdims=True)
    return {
        "feature": np.where(leaf, 0, joined("feature")).astype(np.int32),
        "threshold": np.where(leaf, 0.0, joined("threshold")),
        "left": np.where(leaf, -1, first + left).astype(np.int32),
        "right": np.where(leaf, -1, first + right).astype(np.int32),
        "missing_left": joined("missing_go_to_left").astype(bool) & ~leaf,
        "category_set": np.full(len(left), -1, np.int32),
        "value": np.where(leaf[:, None], values, 0.0) / len(trees),
        "category_sets": np.empty((0, CODES // 8), np.uint8),
        "offsets": offsets,
        "output": np.zeros(len(trees), np.int32),
        "baseline": np.zeros(values.shape[1]),
        "features": np.array([model.n_features_in_ - codes, codes], np.int64),
    }


def _check_boosting(model: Any, iterations: int | None) -> None:
    if not isinstance(model, (HistGradientBoostingClassifier, HistGradientBoostingRegressor)):
        raise ConfigError(f"expected a HistGradientBoosting model of scikit-learn, got {model!r:.80}")
    if not hasattr(model, "_predictors"):
        raise ConfigError("expected a fitted HistGradientBoosting model, got one that was not fitted")
    absent = [name for name in _MODEL_FIELDS if not hasattr(model, name)]
    if not absent and model._predictors:
        tree = model._predictors[0][0]
        absent = [name for name in ("nodes", "raw_left_cat_bitsets") if not hasattr(tree, name)]
        absent = absent or [name for name in _NODE_FIELDS if name not in tree.nodes.dtype.names]
    if absent:
        raise ConfigError(f"trees of scikit-learn {sklearn.__version__} cannot be read: they have no {absent[0]!r}")
    if not hasattr(model, "classes_") and model.loss not in _PLAIN_LOSSES:
        raise ConfigError(f"loss of a regression must be one of {', '.join(_PLAIN_LOSSES)}, got {model.loss!r}")
    if iterations is not None and not 0 <= iterations <= len(model._predictors):
        raise ConfigError(
            f"iterations must be from 0 to {len(model._predictors)}, as many as there are, got {iterations}"
        )


def _columns(model: Any) -> tuple[NDArray[np.int64], list[NDArray[np.float64]]]:
    """The column of [numbers | codes] that each of the features in the trees is, and the codes known of each category.

    Raises:
        ConfigError: Categorical features are not the last ones.
    """
    mask = model.is_categorical_
    if mask is None:
        return np.arange(model.n_features_in_), []
    numbers = int((~mask).sum())
    if mask[:numbers].any():
        raise ConfigError("categorical features must stand after all numbers")
    columns = np.empty(len(mask), np.int64)
    places = model._preprocessor.output_indices_
    columns[places["encoder"]] = np.flatnonzero(mask)
    columns[places["numerical"]] = np.flatnonzero(~mask)
    return columns, list(model._preprocessor.named_transformers_["encoder"].categories_)


def _joined_nodes(trees: Sequence[Any]) -> tuple[NDArray[Any], NDArray[np.int64]]:
    """Nodes of all trees, and where each tree begins."""
    sizes = np.array([len(tree.nodes) for tree in trees], np.int64)
    fields = [(name, "f8" if name in ("value", "num_threshold") else "i8") for name in _NODE_FIELDS]
    nodes = np.empty(int(sizes.sum()), fields)
    for name in _NODE_FIELDS if trees else ():
        nodes[name] = np.concatenate([tree.nodes[name] for tree in trees])
    return nodes, np.concatenate([[0], np.cumsum(sizes)]).astype(np.int64)


def _category_sets(
    trees: Sequence[Any], nodes: NDArray[Any], categories: Sequence[NDArray[np.float64]]
) -> NDArray[np.uint8]:
    """The codes that go left at each of these nodes, which are all that decide by category, in order.

    A code that was not met in training goes where missing values go.

    Raises:
        ConfigError: A code is not from 0 to 255.
    """
    words = np.concatenate([tree.raw_left_cat_bitsets for tree in trees] or [np.empty((0, 8), np.uint32)])
    places = np.arange(CODES)
    known_left = (words[:, places // _WORD] >> (places % _WORD).astype(np.uint32) & 1).astype(bool)
    counts = np.array([len(tree.raw_left_cat_bitsets) for tree in trees], np.int64)
    # Within a tree nodes have sets of their own, by number; over all trees they follow each other.
    of_tree = [tree.nodes[(tree.nodes["is_categorical"] == 1) & (tree.nodes["is_leaf"] == 0)] for tree in trees]
    start = np.repeat(np.cumsum(counts) - counts, np.array([len(own) for own in of_tree], np.int64))
    rows = start + nodes["bitset_idx"]
    goes_left = np.repeat(nodes["missing_go_to_left"].astype(bool)[:, None], CODES, axis=1)
    for number, seen in enumerate(categories):
        codes = seen[~np.isnan(seen)]
        if ((codes < 0) | (codes >= CODES) | (codes != np.floor(codes))).any():
            raise ConfigError(f"codes of categories must be whole numbers from 0 to {CODES - 1}, got {codes}")
        # Categorical features come first in the trees.
        own = np.flatnonzero(nodes["feature_idx"] == number)
        goes_left[own[:, None], codes.astype(np.int64)] = known_left[rows[own], : len(codes)]
    return np.packbits(goes_left, axis=1, bitorder="little")
