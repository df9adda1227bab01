"""Table networks in operators of ONNX (see `nasfast.automl.network`)."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from nasfast.automl.onnx_graph import Graph
from nasfast.automl.onnx_inputs import Features

Floats = NDArray[np.float32]


@dataclass(frozen=True)
class NetworkWeights:
    """One network: of one fold.

    Attributes:
        embedding: [R, D]: per number a row for each of its intervals and one for "missing", per category one for each
            code; in the order of the features.
        scales: [M, F]: factors of members and features.
        bias: [D], of the embedding.
        hidden: Weights [D, D] and bias [D] of each block.
        head: [M, D, K].
        head_bias: [M, K].
    """

    embedding: Floats
    scales: Floats
    bias: Floats
    hidden: Sequence[tuple[Floats, Floats]]
    head: Floats
    head_bias: Floats


def encode_numbers(graph: Graph, features: Features, edges: Sequence[Floats]) -> str:
    """Each number piecewise linearly, float [Fn, N, 1 + intervals]; to be shared by networks of the same edges.

    The first place says that the number is missing, or has no intervals; then the others are 0. Otherwise the parts of
    the intervals that lie below the number: 1 up to its own interval, there the fraction, 0 beyond. Where a number has
    fewer intervals than others, what stands in the last places does not matter.

    Args:
        edges: Of each number: where intervals begin and the last one ends, rising; none if it has no intervals.
    """
    most = max(max((len(e) for e in edges), default=0) - 1, 0)
    low, width = np.zeros((len(edges), 1, most), np.float32), np.ones((len(edges), 1, most), np.float32)
    first, last = (np.zeros((len(edges), 1, 1), np.float32) for _ in range(2))
    for i, e in enumerate(edges):
        if len(e) > 1:
            low[i, 0, : len(e) - 1], width[i, 0, : len(e) - 1] = e[:-1], np.diff(e)
            first[i], last[i] = e[0], e[-1]
    numbers = graph.node("Transpose", features.numbers, perm=[1, 0])
    numbers = graph.node("Unsqueeze", numbers, graph.constant([2]))
    absent = graph.node("Or", graph.node("IsNaN", numbers), graph.constant([[[len(e) < 2]] for e in edges]))
    inside = graph.node("Min", graph.node("Max", numbers, graph.constant(first)), graph.constant(last))
    inside = graph.node("Where", absent, graph.constant(first), inside)
    place = graph.node("Div", graph.node("Sub", inside, graph.constant(low)), graph.constant(width))
    parts = graph.node("Clip", place, graph.constant(0, np.float32), graph.constant(1, np.float32))
    return graph.node("Concat", graph.node("Cast", absent, to=graph.FLOAT), parts, axis=2)


def network_scores(
    graph: Graph,
    features: Features,
    encoded: str,
    edges: Sequence[Floats],
    weights: NetworkWeights,
    block: Literal["mlp", "resnet"],
    activation: Literal["relu", "silu", "gelu"],
) -> str:
    """Outputs [M, N, K] of the members.

    Args:
        encoded: What :func:`encode_numbers` gave for ``edges``; "" if there are no numbers.
    """
    activate = _activation(graph, activation)
    h = _mixed(graph, _per_feature(graph, features, encoded, edges, weights.embedding), weights.scales)
    h = activate(graph.node("Add", h, graph.constant(weights.bias)))
    for weight, bias in weights.hidden:
        x = activate(graph.node("Add", graph.node("MatMul", h, graph.constant(weight)), graph.constant(bias)))
        h = graph.node("Add", h, x) if block == "resnet" else x
    out = graph.node("MatMul", h, graph.constant(weights.head))
    return graph.node("Add", out, graph.constant(weights.head_bias[:, None, :]))


def _activation(graph: Graph, name: str) -> Callable[[str], str]:
    if name == "silu":
        return lambda x: graph.node("Mul", x, graph.node("Sigmoid", x))
    operator = {"relu": "Relu", "gelu": "Gelu"}[name]
    return lambda x: graph.node(operator, x)


def _per_feature(graph: Graph, features: Features, encoded: str, edges: Sequence[Floats], embedding: Floats) -> str:
    """What each feature adds before members differ, float [F, N, D]."""
    parts = []
    intervals = [max(len(e) - 1, 0) for e in edges]
    rows = sum(intervals) + len(edges)
    if edges:
        tables = np.zeros((len(edges), 1 + max(intervals), embedding.shape[1]), np.float32)
        start = 0
        for i, count in enumerate(intervals):
            tables[i, 1 : 1 + count] = embedding[start : start + count]
            tables[i, 0] = embedding[start + count]
            start += count + 1
        parts.append(graph.node("MatMul", encoded, graph.constant(tables)))
    if features.code_counts:
        starts = np.cumsum([0, *features.code_counts[:-1]])
        places = graph.node("Transpose", graph.node("Add", features.codes, graph.constant(starts)), perm=[1, 0])
        parts.append(graph.node("Gather", graph.constant(embedding[rows:]), places, axis=0))
    return graph.node("Concat", *parts, axis=0)


def _mixed(graph: Graph, per_feature: str, scales: Floats) -> str:
    """Sums [M, N, D] over features [F, N, D] by the scales [M, F], as one product of matrices."""
    members, features = scales.shape
    shape = graph.node("Shape", per_feature, start=1)
    size = graph.node("ReduceProd", shape, keepdims=1)
    flat_shape = graph.node("Concat", graph.constant([features]), size, axis=0)
    flat = graph.node("Reshape", per_feature, flat_shape, allowzero=1)
    mixed = graph.node("MatMul", graph.constant(scales), flat)
    return graph.node("Reshape", mixed, graph.node("Concat", graph.constant([members]), shape, axis=0), allowzero=1)
