"""Members of a model in operators of ONNX: each the mean of its folds, float [N, outputs]."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from nasfast.automl.onnx_graph import Graph
from nasfast.automl.onnx_inputs import Features
from nasfast.automl.onnx_linear import linear_scores
from nasfast.automl.onnx_network import Floats, NetworkWeights, encode_numbers, network_scores
from nasfast.automl.onnx_outputs import Kind, link, weighted_mean
from nasfast.automl.onnx_trees import tree_columns, tree_scores
from nasfast.automl.trees import Trees


def boosting_outputs(
    graph: Graph,
    features: Features,
    forests: Sequence[Trees],
    classes: Sequence[Sequence[int]],
    kind: Kind,
    outputs: int,
) -> str:
    """Boosted trees, one set per fold.

    Args:
        classes: Of each fold: the classes that it has seen, by number.
        outputs: Classes, or 1.
    """
    columns = tree_columns(graph, features)
    width = outputs if kind == "multiclass" else 1
    scores = [
        tree_scores(graph, features, columns, trees, seen, width) for trees, seen in zip(forests, classes, strict=True)
    ]
    return _mean(graph, [link(graph, score, kind) for score in scores])


def forest_outputs(graph: Graph, features: Features, forests: Sequence[Trees]) -> str:
    """Random forests or extra trees, one per fold."""
    columns = tree_columns(graph, features)
    return _mean(graph, [tree_scores(graph, features, columns, trees) for trees in forests])


def linear_outputs(
    graph: Graph,
    features: Features,
    center: NDArray[np.float64],
    scale: NDArray[np.float64],
    missing: NDArray[np.bool_],
    codes: Sequence[int],
    weights: NDArray[np.float64],
    bias: NDArray[np.float64],
    clip: float,
    kind: Kind,
) -> str:
    """Linear models; for the arguments see :func:`nasfast.automl.onnx_linear.linear_scores`."""
    scores = linear_scores(graph, features, center, scale, missing, codes, weights, bias, clip)
    return _mean_of_first(graph, link(graph, scores, kind))


def network_outputs(
    graph: Graph,
    features: Features,
    edges: Sequence[Floats],
    networks: Sequence[NetworkWeights],
    block: Literal["mlp", "resnet"],
    activation: Literal["relu", "silu", "gelu"],
    kind: Kind,
    mean: float = 0.0,
    spread: float = 1.0,
) -> str:
    """Networks, one per fold, each the mean of its members.

    Args:
        edges: Intervals of each number.
        mean: Of the numbers that a regression predicts; its networks predict them standardised.
        spread: Their standard deviation.
    """
    encoded = encode_numbers(graph, features, edges) if edges else ""
    folds = [network_scores(graph, features, encoded, edges, weights, block, activation) for weights in networks]
    total = _mean(graph, [_mean_of_first(graph, link(graph, scores, kind)) for scores in folds])
    if kind != "regression":
        return total
    scaled = graph.node("Mul", total, graph.constant(spread, np.float32))
    return graph.node("Add", scaled, graph.constant(mean, np.float32))


def _mean(graph: Graph, parts: Sequence[str]) -> str:
    return weighted_mean(graph, parts, [1 / len(parts)] * len(parts))


def _mean_of_first(graph: Graph, tensor: str) -> str:
    return graph.node("ReduceMean", tensor, graph.constant([0]), keepdims=0)
