"""A whole model in one ONNX file: columns in, predictions out."""

from __future__ import annotations

import json
import sys
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from sklearn.ensemble import HistGradientBoostingClassifier

from nasfast.automl.onnx_graph import Graph
from nasfast.automl.onnx_inputs import add_inputs
from nasfast.automl.onnx_members import boosting_outputs, linear_outputs
from nasfast.automl.onnx_outputs import PREDICTION, PROBABILITIES, add_outputs, constant_outputs, sharpen, weighted_mean
from nasfast.automl.prepare import CodeSource, NumberSource, Preparation, Prepared
from nasfast.automl.trees import Trees
from nasfast.errors import ExportError
from nasfast.tables import Column, Schema
from tests.helpers.onnx_graphs import run

needs_onnx, needs_onnxruntime = pytest.mark.needs("onnx"), pytest.mark.needs("onnxruntime")


LEVELS = tuple("pqrstuvw")
PREPARATION = Preparation((NumberSource("size"), NumberSource("when", "month")), (CodeSource("kind", LEVELS),))
SCHEMA = Schema((Column("size", "number", ""), Column("when", "date", ""), Column("kind", "category", "")))
CLASSES = ("no", "yes", "may be")


def feeds(count: int, seed: int) -> dict[str, NDArray[Any]]:
    rng = np.random.default_rng(seed)
    size = rng.normal(size=(count, 1)).astype(np.float32)
    size[rng.random((count, 1)) < 0.1] = np.nan
    days = rng.integers(1, 29, (count, 1))
    return {
        "size": size,
        "when": np.array([[f"2024-{day % 12 + 1:02d}-{day:02d}"] if day > 2 else [""] for day in days[:, 0]], object),
        "kind": np.array([*LEVELS, "never met", ""], object)[rng.integers(0, 10, (count, 1))],
    }


def prepared(columns: dict[str, NDArray[Any]]) -> Prepared:
    known = columns["when"] != ""
    month = np.array([[float(text[5:7]) if text else np.nan] for text in columns["when"][:, 0]])
    assert known.any()
    codes = {"": 0, **{level: i + 2 for i, level in enumerate(LEVELS)}}
    return Prepared(
        np.concatenate([columns["size"], month], axis=1).astype(np.float32),
        np.array([[codes.get(text, 1)] for text in columns["kind"][:, 0]], np.int16),
    )


@pytest.fixture(scope="module")
def forest() -> Trees:
    rows = prepared(feeds(3000, 1))
    score = np.nan_to_num(rows.numbers[:, 0]) + (rows.codes[:, 0] % 3) + np.nan_to_num(rows.numbers[:, 1]) / 6
    y = np.digitize(score, [1, 2])
    model = HistGradientBoostingClassifier(max_iter=10, categorical_features=[False, False, True])
    return Trees.of(model.fit(np.concatenate([rows.numbers, rows.codes], axis=1), y))


def whole_model(forest: Trees, temperature: float) -> Any:
    graph = Graph()
    graph.reserve(PREDICTION, PROBABILITIES)
    features = add_inputs(graph, PREPARATION, SCHEMA)
    boosting = boosting_outputs(graph, features, [forest], [range(3)], "multiclass", 3)
    linear = linear_outputs(
        graph, features, np.zeros(2), np.ones(2), np.array([True, False]), (10,), *linear_weights(), 4.0, "multiclass"
    )
    constant = constant_outputs(graph, features, [0.2, 0.3, 0.5])
    mean = weighted_mean(graph, [boosting, linear, constant], [0.5, 0.3, 0.2])
    add_outputs(graph, sharpen(graph, mean, temperature), CLASSES)
    return graph.model({"inputs": features.inputs, "target": "answer"})


def linear_weights() -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    rng = np.random.default_rng(4)
    return rng.normal(size=(1, 13, 3)), rng.normal(size=(1, 3))


def expected_probabilities(forest: Trees, rows: Prepared, temperature: float) -> NDArray[np.float64]:
    x = np.nan_to_num(rows.numbers.astype(np.float64))
    x = x / np.sqrt(1 + (x / 4) ** 2)
    weights, bias = linear_weights()
    columns = np.concatenate([x, np.isnan(rows.numbers[:, :1]), np.eye(10)[rows.codes[:, 0]]], axis=1)
    raw = np.exp(columns @ weights[0] + bias[0])
    linear = raw / raw.sum(axis=1, keepdims=True)
    mean = 0.5 * forest.probabilities(rows) + 0.3 * linear + 0.2 * np.array([0.2, 0.3, 0.5])
    powers = mean ** (1 / temperature)
    return powers / powers.sum(axis=1, keepdims=True)


@needs_onnx
@needs_onnxruntime
@pytest.mark.parametrize("temperature", [1.0, 0.6])
def test_columns_in_predictions_out(forest: Trees, temperature: float) -> None:
    model = whole_model(forest, temperature)
    for count in (500, 1):
        columns = feeds(count, 2 if count > 1 else 4)
        prediction, probabilities = run(model, columns)
        expected = expected_probabilities(forest, prepared(columns), temperature)
        np.testing.assert_allclose(probabilities, expected, rtol=1e-5, atol=1e-5)
        assert list(prediction) == [CLASSES[i] for i in probabilities.argmax(axis=1)]
    assert len(set(prediction)) == 1
    assert len(set(run(model, feeds(500, 2))[0])) == 3


@needs_onnx
@needs_onnxruntime
def test_no_row(forest: Trees) -> None:
    prediction, probabilities = run(whole_model(forest, 0.6), {k: v[:0] for k, v in feeds(5, 2).items()})
    assert prediction.shape == (0,)
    assert probabilities.shape == (0, 3)


@needs_onnx
@needs_onnxruntime
def test_a_reader_finds_what_to_give(forest: Trees) -> None:
    model = whole_model(forest, 1.0)
    metadata = {entry.key: entry.value for entry in model.metadata_props}
    assert metadata["target"] == "answer"
    inputs = {given["input"]: given for given in json.loads(metadata["inputs"])}
    assert [i.name for i in model.graph.input] == list(inputs) == ["size", "when", "kind"]
    assert inputs["when"]["type"] == "text"
    assert "YYYY-MM-DD" in inputs["when"]["takes"]
    assert [o.name for o in model.graph.output] == [PREDICTION, PROBABILITIES]


@needs_onnx
@needs_onnxruntime
def test_numbers_are_predicted_as_such() -> None:
    graph = Graph()
    features = add_inputs(graph, Preparation((NumberSource("size"),), ()), SCHEMA)
    add_outputs(graph, constant_outputs(graph, features, [2.5]), ())
    (prediction,) = run(graph.model({}), {"size": np.zeros((3, 1), np.float32)})
    np.testing.assert_array_equal(prediction, np.float32([2.5, 2.5, 2.5]))


@needs_onnx
@needs_onnxruntime
def test_a_faulty_graph_is_refused() -> None:
    graph = Graph()
    graph.output("absent", "prediction", np.float32, ["N"])
    with pytest.raises(ExportError, match="ONNX export failed: "):
        graph.model({})


def test_missing_onnx_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "onnx", None)
    with pytest.raises(ExportError, match=r"needs onnx: pip install 'nasfast\[onnx\]'"):
        Graph()
