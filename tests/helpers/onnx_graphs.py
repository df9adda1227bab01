"""Graphs of ONNX that tests run by onnxruntime."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from nasfast.automl.onnx_graph import Graph
from nasfast.automl.onnx_inputs import Features


def given_features(graph: Graph, numbers: int, code_counts: Sequence[int]) -> Features:
    """Inputs for prepared rows: "numbers" [N, Fn] and "codes" [N, Fc]."""
    if numbers:
        graph.input("numbers", np.float32, numbers)
    if code_counts:
        graph.input("codes", np.int64, len(code_counts))
    return Features("numbers" if numbers else "", "codes" if code_counts else "", numbers, tuple(code_counts), ())


def run(model: Any, feeds: Mapping[str, NDArray[Any]]) -> list[NDArray[Any]]:
    """All outputs of a model."""
    import onnxruntime

    session = onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    return session.run(None, dict(feeds))


def result(
    graph: Graph, tensor: str, feeds: Mapping[str, NDArray[Any]], shape: Sequence[str | int], kind: type = np.float32
) -> NDArray[Any]:
    """A tensor of a graph."""
    graph.output(tensor, "result", kind, shape)
    return run(graph.model({}), feeds)[0]
