"""A fitted model as one ONNX file, preparation included, and the proof that it predicts the same."""

from __future__ import annotations

import importlib
import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from nasfast.automl.members.boosting import Boosting
from nasfast.automl.members.constant import Constant
from nasfast.automl.members.linear import CLIP, Linear
from nasfast.automl.members.network import Network
from nasfast.automl.model import FittedModel
from nasfast.automl.onnx_graph import Graph
from nasfast.automl.onnx_inputs import Features, add_inputs
from nasfast.automl.onnx_members import boosting_outputs, linear_outputs, network_outputs
from nasfast.automl.onnx_network import NetworkWeights
from nasfast.automl.onnx_outputs import PREDICTION, PROBABILITIES, add_outputs, constant_outputs, sharpen, weighted_mean
from nasfast.automl.prepare import LARGEST
from nasfast.errors import ExportError
from nasfast.tables import convert
from nasfast.utils.files import atomic_write

_TOLERANCE = 1e-4
"""Of probabilities, and of numbers in units of their spread: graphs compute in float32."""


def onnx_model(model: FittedModel) -> Any:
    """The graph: an input [N, 1] per column that is used, outputs ``prediction`` [N] and ``probabilities``.

    Raises:
        ExportError: onnx is not installed.
    """
    graph = Graph()
    graph.reserve(PREDICTION, PROBABILITIES)
    features = add_inputs(graph, model.preparation, model.schema)
    members = [_ADD[member.kind](graph, features, member, model) for _, _, member in model.members]
    mean = weighted_mean(graph, members, [weight for _, weight, _ in model.members])
    if model.task.classes:
        mean = sharpen(graph, mean, model.temperature)
    add_outputs(graph, mean, model.task.classes)
    return graph.model({"inputs": list(features.inputs), "target": model.target.name, "task": model.task.kind})


def export_onnx(model: FittedModel, path: Path, table: pa.Table) -> float:
    """Write the graph once it predicts the rows of a table as the model does; the largest difference.

    Raises:
        ExportError: onnx or onnxruntime is not installed, or predictions differ by more than 1e-4 (of numbers: of their
            spread).
        RunError: The file could not be written.
    """
    content = onnx_model(model).SerializeToString()
    difference = largest_difference(model, content, table)
    if not difference <= _TOLERANCE:  # NaN is no agreement
        raise ExportError(f"ONNX predicts otherwise than the model, by {difference:.2g}: expected {_TOLERANCE} at most")
    atomic_write(path, content)
    return difference


def largest_difference(model: FittedModel, content: bytes, table: pa.Table) -> float:
    """Between what onnxruntime and the model predict for the rows of a table."""
    try:
        runtime = importlib.import_module("onnxruntime")
    except ImportError as error:
        raise ExportError("checking an ONNX file needs onnxruntime: pip install 'nasfast[onnx]'") from error
    session = runtime.InferenceSession(content, providers=["CPUExecutionProvider"])
    inputs = json.loads(session.get_modelmeta().custom_metadata_map["inputs"])
    names = {given["column"]: given["input"] for given in inputs}
    found = session.run(None, onnx_inputs(model, table, names))[-1]
    expected = model.predict(table)
    spread = 1.0 if model.task.classes else float(expected.std()) or 1.0
    return float(np.abs(np.asarray(found).reshape(expected.shape) - expected).max(initial=0.0)) / spread


def onnx_inputs(model: FittedModel, table: pa.Table, inputs: Mapping[str, str]) -> dict[str, NDArray[Any]]:
    """The rows of a table as the graph takes them: numbers float32 [N, 1], all else texts [N, 1].

    Args:
        inputs: Of each column that is used, the name of its input.
    """
    feeds: dict[str, NDArray[Any]] = {}
    for column, values in convert(table, model.schema).items():
        if column not in inputs:
            continue
        name = inputs[column]
        if model.schema[column].kind == "number":
            feeds[name] = np.clip(values, -LARGEST, LARGEST).astype(np.float32)[:, None]
        elif model.schema[column].kind == "date":
            feeds[name] = _dates(values)[:, None]
        else:
            feeds[name] = np.asarray(pc.fill_null(values, "").to_pylist(), object).reshape(-1, 1)
    return feeds


def _dates(seconds: NDArray[np.float64]) -> NDArray[Any]:
    known = np.isfinite(seconds)
    texts = np.where(known, seconds, 0).astype("datetime64[s]").astype(str)
    return np.where(known, texts, "").astype(object)


def _constant(graph: Graph, features: Features, member: Constant, model: FittedModel) -> str:
    return constant_outputs(graph, features, member.values.tolist())


def _linear(graph: Graph, features: Features, member: Linear, model: FittedModel) -> str:
    d = member.design
    return linear_outputs(
        graph, features, d.center, d.scale, d.missing, d.codes, member.weights, member.bias, CLIP, model.task.kind
    )


def _boosting(graph: Graph, features: Features, member: Boosting, model: FittedModel) -> str:
    classes = [seen.tolist() for seen in member.classes]
    return boosting_outputs(graph, features, member.forests, classes, model.task.kind, model.task.outputs)


def _network(graph: Graph, features: Features, member: Network, model: FittedModel) -> str:
    state = {name: tensor.numpy() for name, tensor in member.network.state_dict().items()}
    networks = [_weights(state, fold, member.form.depth) for fold in range(len(state["embedding"]))]
    return network_outputs(
        graph,
        features,
        member.encoding.edges,
        networks,
        member.form.block,
        member.form.activation,
        model.task.kind,
        member.mean,
        member.spread,
    )


def _weights(state: Mapping[str, NDArray[Any]], fold: int, depth: int) -> NetworkWeights:
    """Those of one fold."""
    return NetworkWeights(
        state["embedding"][fold],
        state["scales"][fold],
        state["bias"][fold].reshape(-1),
        [(state[f"weights.{i}"][fold], state[f"biases.{i}"][fold].reshape(-1)) for i in range(depth)],
        state["head"][fold],
        state["head_bias"][fold].reshape(len(state["head"][fold]), -1),
    )


_ADD: dict[str, Callable[[Graph, Features, Any, FittedModel], str]] = {
    "constant": _constant,
    "linear": _linear,
    "boosting": _boosting,
    "network": _network,
}
