"""Columns become features in ONNX as the engine makes them."""

from __future__ import annotations

from datetime import datetime
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from numpy.typing import NDArray

from nasfast.automl.onnx_dates import Dates
from nasfast.automl.onnx_graph import Graph
from nasfast.automl.onnx_inputs import add_inputs
from nasfast.automl.prepare import CodeSource, NumberSource, Preparation
from nasfast.automl.text import TextSource
from nasfast.errors import ExportError
from nasfast.tables import Column, Schema, convert
from tests.helpers.onnx_graphs import result, run

pytestmark = [pytest.mark.needs("onnx"), pytest.mark.needs("onnxruntime")]


def column(values: list[Any], kind: Any = object) -> NDArray[Any]:
    return np.array(values, dtype=kind).reshape(-1, 1)


def schema_of(**kinds: Any) -> Schema:
    return Schema(tuple(Column(name, kind, "") for name, kind in kinds.items()))


READABLE = [
    *("1970-01-01", "1969-12-31", "2000-02-29", "1900-02-28", "1900-03-01", "2024-02-29", "2023-12-31"),
    *("1000-01-01", "1600-02-29", "2024-03-01 12:30:00", "2024-03-01T23:59:59", "2024-03-01 00:00"),
    *("1960-06-15 07:15:00.25", "2999-12-31 19:00"),
    *(f"2024-{month:02d}-28" for month in range(1, 13)),
    *(f"{year}-03-01" for year in range(1896, 2110, 3)),
]
UNREADABLE = [
    *("", "2023-02-29", "1900-02-29", "1500-02-29", "2024-13-01", "2024-00-10", "2024-04-31", "2024-1-1"),
    *("01.03.2024", "today", "0999-12-31", "3000-01-01", "2024-03-01x", " 2024-03-01"),
    *("2024-03-01 24:00", "2024-03-01 12:60", "2024-03-01  12:30", "2024-03-01 12"),
]


def expected_part(text: str, part: str) -> float:
    moment = datetime.fromisoformat(text)
    days = moment.toordinal() - datetime(1970, 1, 1).toordinal()
    return {"days": days, "month": moment.month, "weekday": moment.weekday(), "hour": moment.hour}[part]


@pytest.mark.parametrize("part", ["days", "month", "weekday", "hour"])
def test_parts_of_dates(part: str) -> None:
    graph = Graph()
    made = Dates(graph, graph.input("when", np.str_)).part(part)
    got = result(graph, made, {"when": column(READABLE + UNREADABLE)}, ["N", 1])[:, 0]
    np.testing.assert_array_equal(got[: len(READABLE)], [expected_part(text, part) for text in READABLE])
    assert np.isnan(got[len(READABLE) :]).all()


def test_dates_of_no_row_and_of_none_that_is_known() -> None:
    for texts in ([], [""], ["no date", ""]):
        graph = Graph()
        made = Dates(graph, graph.input("when", np.str_)).part("days")
        got = result(graph, made, {"when": column(texts)}, ["N", 1])
        assert got.shape == (len(texts), 1)
        assert np.isnan(got).all()


def test_every_column_is_an_input() -> None:
    graph = Graph()
    graph.reserve("prediction", "probabilities")
    numbers = tuple(NumberSource(*n) for n in (("age",), ("when", "month"), ("when", "hour"), ("prediction",)))
    codes = CodeSource("city & land", ("Köln", "3")), CodeSource("", ("a",))
    schema = schema_of(age="number", when="date", prediction="number", **{"city & land": "category", "": "category"})
    features = add_inputs(graph, Preparation(numbers, codes), schema)
    assert [(i["column"], i["input"], i["type"]) for i in features.inputs] == [
        ("age", "age", "float"),
        ("when", "when", "text"),
        ("prediction", "prediction_2", "float"),
        ("city & land", "city & land", "text"),
        ("", "column", "text"),
    ]
    assert (features.number_count, features.code_counts) == (4, (4, 3))
    graph.output(features.numbers, "numbers", np.float32, ["N", 4])
    graph.output(features.codes, "codes", np.int64, ["N", 2])
    feeds = {
        "age": column([3.5, np.nan, np.inf], np.float32),
        "when": column(["2024-03-01 12:30:00", "", "1999-12-31"]),
        "prediction_2": column([0, 1, 2], np.float32),
        "city & land": column(["3", "Rom", ""]),
        "column": column(["", "a", "b"]),
    }
    got_numbers, got_codes = run(graph.model({}), feeds)
    np.testing.assert_array_equal(got_numbers, [[3.5, 3, 12, 0], [np.nan, np.nan, np.nan, 1], [np.nan, 12, 0, 2]])
    np.testing.assert_array_equal(got_codes, [[3, 0], [1, 2], [0, 1]])


def test_what_stands_for_another_value() -> None:
    graph = Graph()
    levels = ("1", "false", "x.0", "-7", "None")
    column_a = Column("a", "number", "", sentinels=(-999, 99999999))
    column_b = Column("b", "category", "", kept=("none",), truth="true/false")
    preparation = Preparation((NumberSource("a"),), (CodeSource("b", levels),))
    features = add_inputs(graph, preparation, Schema((column_a, column_b)))
    graph.output(features.numbers, "numbers", np.float32, ["N", 1])
    graph.output(features.codes, "codes", np.int64, ["N", 1])
    texts = ["1", "1.0", "true", "TRUE", "0", "False", "-7.0", "x.0", "x", "None", "none", "NA", "NaN", "?", "7"]
    numbers = column([-999, 99999999, -998.5, 0, *range(11)], np.float32)
    got_numbers, got_codes = run(graph.model({}), {"a": numbers, "b": column(texts)})
    assert got_codes[:, 0].tolist() == [2, 2, 2, 2, 3, 3, 5, 4, 1, 6, 1, 0, 0, 0, 1]
    assert np.isnan(got_numbers[:, 0]).tolist() == [True, True, *[False] * 13]


@pytest.mark.parametrize("truth", ["", "0/1", "true/false"])
@pytest.mark.parametrize("kept", [(), ("none", "-")])
def test_raw_columns_are_read_as_tables_are(truth: Any, kept: tuple[str, ...]) -> None:
    texts = ["3", "3.0", "-7.0", "-7", "1", "0", "1.0", "0.0", "true", "TRUE", "False", "0.5", "x", "X"]
    texts += ["None", "none", "NONE"]
    texts += ["-", "--", "n/a", "N/A", "NA", "na", "NaN", "nan", "NULL", "null", "?", "", ".", "nat", "<NA>", "other"]
    texts += READABLE
    given = {"kind": texts, "when": [*texts[: -len(READABLE)], *READABLE]}
    columns = Column("kind", "category", "", kept=kept, truth=truth), Column("when", "date", "", order="ymd")
    converted = convert(pa.table(given), Schema(columns))
    levels = tuple(sorted(set(converted["kind"].drop_null().to_pylist()) - {"other", "X"}))
    parts = tuple(NumberSource("when", part) for part in ("days", "month", "weekday", "hour"))
    preparation = Preparation(parts, (CodeSource("kind", levels),))
    expected = preparation.apply(converted, len(texts))
    graph = Graph()
    features = add_inputs(graph, preparation, Schema(columns))
    graph.output(features.numbers, "numbers", np.float32, ["N", 4])
    graph.output(features.codes, "codes", np.int64, ["N", 1])
    numbers, codes = run(graph.model({}), {name: column(values) for name, values in given.items()})
    np.testing.assert_array_equal(numbers, expected.numbers)
    assert dict(zip(texts, codes[:, 0], strict=True)) == dict(zip(texts, expected.codes[:, 0], strict=True))


SENTENCES = [
    "The quick brown fox jumps over the lazy dog",
    "the DOG, the dog & the fox: what a day!",
    "Über den Wolken, über den Dächern; ÜBER allem. Étude für ÄRZTE",
    "über étude Dächern ärzte x_1 3.14 日本語",
    "quick quick QUICK étude dog 日本語",
    "Fox über x_1 3.14",
]


@pytest.mark.parametrize("texts", [SENTENCES * 3, ["only one and the same"] * 4, ["a b", "c d", "e f", "g"]])
def test_free_text(texts: list[str]) -> None:
    source = TextSource.of("note", pa.array(texts))
    new = [*SENTENCES, "", "N/A", "...", "nothing known here", "na na"]
    graph = Graph()
    made = add_inputs(graph, Preparation((), (), (source,)), schema_of(note="text"))
    assert made.number_count == len(source.names)
    got = result(graph, made.numbers, {"note": column(new)}, ["N", made.number_count])
    expected = source.apply(pa.array([None if text in ("", "N/A") else text for text in new]))
    np.testing.assert_allclose(got, expected, rtol=1e-5, atol=1e-6)


def test_free_text_of_no_row() -> None:
    graph = Graph()
    source = TextSource.of("note", pa.array(SENTENCES * 3))
    made = add_inputs(graph, Preparation((), (), (source,)), schema_of(note="text"))
    assert made.number_count > 2
    got = result(graph, made.numbers, {"note": column([])}, ["N", made.number_count])
    assert got.shape == (0, made.number_count)


def test_a_model_without_columns_is_refused() -> None:
    with pytest.raises(ExportError, match="the model uses no column"):
        add_inputs(Graph(), Preparation((), ()), Schema(()))
