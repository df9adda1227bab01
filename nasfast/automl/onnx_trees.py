"""Trees as TreeEnsembleRegressor nodes.

A split by category becomes a chain of comparisons, one per border between codes that go left and codes that go right:
x <= border goes to the side that ends there, what is above to the next comparison. The chain shares its two children;
onnxruntime takes that, since other exporters write categories as chains, too. TreeEnsemble of ai.onnx.ml 5 knows sets,
but onnxruntime copies the whole left child for each member of a set.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from nasfast.automl.onnx_graph import ML, Graph
from nasfast.automl.onnx_inputs import Features
from nasfast.automl.onnx_outputs import constant_outputs
from nasfast.automl.trees import Trees

Ints = NDArray[np.int64]


def tree_columns(graph: Graph, features: Features) -> str:
    """Numbers and codes side by side, float [N, Fn + Fc], as trees read them."""
    parts = [features.numbers] if features.numbers else []
    if features.codes:
        parts.append(graph.node("Cast", features.codes, to=graph.FLOAT))
    return graph.node("Concat", *parts, axis=1)


def tree_scores(
    graph: Graph,
    features: Features,
    columns: str,
    trees: Trees,
    classes: Sequence[int] = (),
    width: int = 0,
    absent: float = -30.0,
) -> str:
    """What :meth:`nasfast.automl.trees.Trees.raw` gives, float [N, K].

    Args:
        columns: What :func:`tree_columns` gave.
        classes: Of trees that have seen only some of ``width`` > 2 classes: which these are, by number.
        width: How many outputs there shall be; those of the trees by default.
        absent: The output of a class that was not seen.
    """
    place, baseline = _places(trees, classes, width, absent)
    base = constant_outputs(graph, features, baseline.tolist())
    if not len(trees):
        return base
    return graph.node("Add", _ensemble(graph, features, columns, trees, place, len(baseline)), base)


def _places(trees: Trees, classes: Sequence[int], width: int, absent: float) -> tuple[Ints, NDArray[np.float64]]:
    """Which output each output of the trees is, and all outputs without any tree."""
    own = len(trees.baseline)
    if not width or own == width:
        return np.arange(own), trees.baseline
    baseline = np.full(width, absent)
    if own == 1:  # two classes: their logit is the second's against 0 of the first
        baseline[classes[0]] = 0.0
    place = np.array(classes[-own:], np.int64)
    baseline[place] = trees.baseline
    return place, baseline


@dataclass(frozen=True)
class _Comparisons:
    """Nodes whose splits are all comparisons, over all trees.

    Attributes:
        origin: Node of the trees that each was made from.
        threshold: Rows up to it take the true branch.
        true: Next node.
        false: The other one; both are -1 for leaves.
    """

    origin: Ints
    threshold: NDArray[np.float32]
    true: Ints
    false: Ints


def _ensemble(graph: Graph, features: Features, columns: str, trees: Trees, place: Ints, width: int) -> str:
    nodes = _comparisons(trees, features)
    tree = np.repeat(np.arange(len(trees)), np.diff(trees.offsets))[nodes.origin]
    first = np.searchsorted(nodes.origin, trees.offsets[:-1])
    number = np.arange(len(tree)) - first[tree]  # within its tree
    leaf = nodes.true < 0
    node = graph.bare_node("TreeEnsembleRegressor", columns, domain=ML, n_targets=width)
    graph.ints(node, "nodes_treeids", tree)
    graph.ints(node, "nodes_nodeids", number)
    graph.ints(node, "nodes_featureids", trees.feature[nodes.origin])
    graph.strings(node, "nodes_modes", [b"LEAF" if end else b"BRANCH_LEQ" for end in leaf])
    graph.floats(node, "nodes_values", nodes.threshold)
    graph.ints(node, "nodes_truenodeids", np.where(leaf, 0, number[nodes.true]))
    graph.ints(node, "nodes_falsenodeids", np.where(leaf, 0, number[nodes.false]))
    graph.ints(node, "nodes_missing_value_tracks_true", trees.missing_left[nodes.origin].astype(np.int64))
    # Of a forest, every leaf adds to several outputs.
    values = trees.value[nodes.origin[leaf]]
    own = values.shape[1]
    target = trees.output[tree[leaf]][:, None] + np.arange(own)
    graph.ints(node, "target_treeids", np.repeat(tree[leaf], own))
    graph.ints(node, "target_nodeids", np.repeat(number[leaf], own))
    graph.ints(node, "target_ids", place[target].reshape(-1))
    graph.floats(node, "target_weights", values.reshape(-1).astype(np.float32))
    return graph.add(node)


def _comparisons(trees: Trees, features: Features) -> _Comparisons:
    """Chains in the place of splits by category; a comparison's origin does not fall from one to the next."""
    by_set = np.flatnonzero(trees.category_set >= 0)
    goes_left = trees.goes_left[trees.category_set[by_set]]
    borders = _borders(
        goes_left, np.array(features.code_counts, np.int64)[trees.feature[by_set] - features.number_count]
    )
    lengths = np.ones(len(trees.feature), np.int64)
    lengths[by_set] = borders.sum(axis=1)
    start = np.cumsum(lengths) - lengths
    origin = np.repeat(np.arange(len(lengths)), lengths)
    threshold = round_down(trees.threshold)[origin]
    true = np.where(trees.is_leaf, -1, start[trees.left])[origin]
    false = np.where(trees.is_leaf, -1, start[trees.right])[origin]

    links = np.flatnonzero(trees.category_set[origin] >= 0)  # of all chains, one after the other, as borders are
    chain, code = np.nonzero(borders)
    up_to_left = goes_left[chain, code]
    left, right = true[links], false[links]
    last = np.append(chain[1:] != chain[:-1], True)[: len(chain)]
    threshold[links] = code
    true[links] = np.where(up_to_left, left, right)
    false[links] = np.where(last, np.where(up_to_left, right, left), links + 1)
    return _Comparisons(origin, threshold, true, false)


def _borders(goes_left: NDArray[np.bool_], counts: Ints) -> NDArray[np.bool_]:
    """Where runs of codes that go the same way end [sets, codes], but for the last run; the last code where all do."""
    borders = np.zeros_like(goes_left)
    borders[:, :-1] = goes_left[:, 1:] != goes_left[:, :-1]
    borders &= np.arange(goes_left.shape[1]) < counts[:, None] - 1
    same = np.flatnonzero(~borders.any(axis=1))
    borders[same, counts[same] - 1] = True
    return borders


def round_down(values: NDArray[np.float64]) -> NDArray[np.float32]:
    """The largest float32 that is not above each value: a float32 is at most the one exactly if at most the other."""
    with np.errstate(over="ignore"):
        nearest = values.astype(np.float32)
    return np.where(nearest > values, np.nextafter(nearest, np.float32(-np.inf)), nearest)
