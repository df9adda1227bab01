"""Linear models in operators of ONNX."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from nasfast.automl.onnx_graph import Graph
from nasfast.automl.onnx_inputs import Features
from nasfast.automl.prepare import UNSEEN

_FURTHEST = 1e6


def linear_scores(
    graph: Graph,
    features: Features,
    center: NDArray[np.float64],
    scale: NDArray[np.float64],
    missing: NDArray[np.bool_],
    codes: Sequence[int],
    weights: NDArray[np.float64],
    bias: NDArray[np.float64],
    clip: float,
) -> str:
    """Scores [folds, N, K] of linear models on standardised numbers, indicators of missing ones, and categories.

    A number x becomes z = (x - center) / scale and then z / sqrt(1 + (z / clip)^2); a missing one becomes 0.

    Args:
        center: [Fn].
        scale: [Fn].
        missing: [Fn]: whether a number has an indicator.
        codes: Per category: how many codes the model knows; any other is taken as 1.
        weights: [folds, numbers + indicators + codes, K].
        bias: [folds, K].
        clip: Bound of standardised numbers.
    """
    parts = []
    count, indicators = len(center), int(missing.sum())
    if features.numbers:
        absent = graph.node("IsNaN", features.numbers)
        parts.append(
            _times(graph, _standardised(graph, features.numbers, absent, center, scale, clip), weights[:, :count])
        )
        if indicators:
            shown = graph.node("Gather", absent, graph.constant(np.flatnonzero(missing)), axis=1)
            shown = graph.node("Cast", shown, to=graph.FLOAT)
            parts.append(_times(graph, shown, weights[:, count : count + indicators]))
    if features.codes:
        parts.append(_looked_up(graph, features, codes, weights[:, count + indicators :]))
    total = graph.constant(bias[:, None, :], np.float32)
    for part in parts:
        total = graph.node("Add", part, total)
    return total


def _standardised(
    graph: Graph, numbers: str, absent: str, center: NDArray[np.float64], scale: NDArray[np.float64], clip: float
) -> str:
    """float [N, Fn]; in float64 until it is small, since large numbers lie close to each other in float32."""
    z = graph.node("Sub", graph.node("Cast", numbers, to=graph.DOUBLE), graph.constant(center, np.float64))
    z = graph.node("Div", z, graph.constant(scale, np.float64))
    z = graph.node("Min", graph.node("Max", z, graph.constant(-_FURTHEST)), graph.constant(_FURTHEST))
    z = graph.node("Where", absent, graph.constant(0.0), z)
    part = graph.node("Div", z, graph.constant(clip, np.float64))
    root = graph.node("Sqrt", graph.node("Add", graph.node("Mul", part, part), graph.constant(1.0)))
    return graph.node("Cast", graph.node("Div", z, root), to=graph.FLOAT)


def _times(graph: Graph, columns: str, weights: NDArray[np.float64]) -> str:
    return graph.node("MatMul", columns, graph.constant(weights, np.float32))


def _looked_up(graph: Graph, features: Features, codes: Sequence[int], weights: NDArray[np.float64]) -> str:
    """What the weights [folds, codes, K] of one-hot codes add, [folds, N, K]."""
    rows: list[int] = []
    starts: list[int] = []
    start = 0
    for known, count in zip(codes, features.code_counts, strict=True):
        starts.append(len(rows))
        rows += [start + (code if code < known else UNSEEN) for code in range(count)]
        start += known
    table = graph.constant(weights[:, rows].transpose(1, 0, 2), np.float32)
    places = graph.node("Add", features.codes, graph.constant(starts))
    chosen = graph.node("Gather", table, places, axis=0)  # [N, Fc, folds, K]
    total = graph.node("ReduceSum", chosen, graph.constant([1]), keepdims=0)
    return graph.node("Transpose", total, perm=[1, 0, 2])
