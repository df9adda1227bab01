"""From what members say to the outputs of a model."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import numpy as np

from nasfast.automl.onnx_graph import Graph
from nasfast.automl.onnx_inputs import Features

Kind = Literal["binary", "multiclass", "regression"]

PREDICTION, PROBABILITIES = "prediction", "probabilities"
"""Names of the outputs; to be reserved before there are inputs."""

_SMALLEST = 1e-12


def link(graph: Graph, scores: str, kind: Kind) -> str:
    """Probabilities [..., classes] of logits [..., logits]; numbers [..., 1] of a regression as they are."""
    if kind == "regression":
        return scores
    if kind == "multiclass":
        return graph.node("Softmax", scores, axis=-1)
    p = graph.node("Sigmoid", scores)
    return graph.node("Concat", graph.node("Sub", graph.constant(1, np.float32), p), p, axis=-1)


def constant_outputs(graph: Graph, features: Features, values: Sequence[float]) -> str:
    """The same outputs [N, K] for every row."""
    shape = graph.node("Shape", features.numbers or features.codes, start=0, end=1)
    shape = graph.node("Concat", shape, graph.constant([1]), axis=0)
    return graph.node("Expand", graph.constant([list(values)], np.float32), shape)


def weighted_mean(graph: Graph, members: Sequence[str], weights: Sequence[float]) -> str:
    """Of tensors of one shape; weights sum to 1."""
    total = ""
    for member, weight in zip(members, weights, strict=True):
        part = graph.node("Mul", member, graph.constant(weight, np.float32)) if weight != 1 else member
        total = graph.node("Add", total, part) if total else part
    return total


def sharpen(graph: Graph, probabilities: str, temperature: float) -> str:
    """Probabilities [N, classes] at another temperature; below 1 they are surer."""
    if temperature == 1:
        return probabilities
    logs = graph.node("Log", graph.node("Max", probabilities, graph.constant(_SMALLEST, np.float32)))
    return graph.node("Softmax", graph.node("Div", logs, graph.constant(temperature, np.float32)), axis=-1)


def add_outputs(graph: Graph, outputs: str, classes: Sequence[str]) -> None:
    """The outputs "prediction" [N], a class's name or a number, and, of classes, "probabilities" [N, classes].

    Args:
        outputs: Probabilities [N, classes], or numbers [N, 1].
        classes: Names, none of a regression.
    """
    if not classes:
        graph.output(graph.node("Squeeze", outputs, graph.constant([1])), PREDICTION, np.float32, ["N"])
        return
    best = graph.node("ArgMax", outputs, axis=1, keepdims=0)
    graph.output(graph.node("Gather", graph.constant(list(classes)), best), PREDICTION, np.str_, ["N"])
    graph.output(outputs, PROBABILITIES, np.float32, ["N", len(classes)])
