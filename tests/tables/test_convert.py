"""Conversion: whatever form a column has, it comes out in that of its kind."""

from __future__ import annotations

from datetime import UTC, date, datetime, time, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from nasfast.errors import DataError
from nasfast.tables import Column, Schema, convert, infer_schema, open_batches, read_table

NUMBER = Column("x", "number", "")
CATEGORY = Column("x", "category", "")
DATE = Column("x", "date", "", order="ymd")
TEXT = Column("x", "text", "")


def of(values: Any, column: Column) -> list[Any]:
    table = pa.table({"x": values})
    found = convert(table, Schema((column,)))["x"]
    batch = convert(table.combine_chunks().to_batches()[0], Schema((column,)))["x"] if len(table) else found
    if isinstance(found, np.ndarray):
        assert found.dtype == np.float64
        np.testing.assert_array_equal(found, batch)
        return [None if np.isnan(value) else float(value) for value in found]
    assert isinstance(found, pa.StringArray)
    assert found.equals(batch)
    return list(found.to_pylist())


@pytest.mark.parametrize(
    "values",
    [
        pa.array([3, None, 4], pa.int8()),
        pa.array([3, None, 4], pa.uint64()),
        pa.array([3.0, None, 4.0], pa.float32()),
        pa.array([3.0, float("nan"), 4.0]),
        [Decimal("3.0"), None, Decimal("4.0")],
        ["3", "", "4"],
        [" 3.0", "NA", "4.0 "],
        ["+3", "unknown", "4e0"],
        [3.0, float("inf"), 4.0],
        pa.array(["3", None, "4"], pa.large_string()),
        pa.array(["3", None, "4"]).dictionary_encode(),
        pa.chunked_array([["3"], [None, "4"]]),
        pa.array(["3", None, "4"], pa.string_view()),
        pa.chunked_array([pa.array(["3"]).dictionary_encode(), pa.array([None, "4"]).dictionary_encode()]),
        pa.DictionaryArray.from_arrays([1, None, 0], pa.array(["4", "3"], pa.string_view())),
    ],
)
def test_numbers_in_any_form(values: Any) -> None:
    assert of(values, NUMBER) == [3.0, None, 4.0]


@pytest.mark.parametrize(
    "values",
    [
        [3, None, 4],
        [3.0, None, 4.0],
        ["3", None, "4"],
        ["3.0", "", " 4.00"],
        [Decimal("3"), None, Decimal("4.0")],
        pa.array([3.0, float("nan"), 4.0], pa.float32()),
        pa.array([3.0, None, 4.0], pa.float16()),
        pa.array([3, None, 4]).dictionary_encode(),
    ],
)
def test_categories_in_any_form(values: Any) -> None:
    assert of(values, CATEGORY) == ["3", None, "4"]


def test_texts_of_numbers_of_any_size() -> None:
    assert of([2.0**53 - 1, 1e300, 0.1, -0.0, -7.0], CATEGORY) == ["9007199254740991", "1e+300", "0.1", "0", "-7"]
    assert of(pa.array([0.1], pa.float32()), CATEGORY) == ["0.1"]
    assert of([2**63 - 1], CATEGORY) == ["9223372036854775807"]


def test_words_for_truth_are_those_of_the_column() -> None:
    zero_one, words = Column("x", "category", "", truth="0/1"), Column("x", "category", "", truth="true/false")
    for values in ([True, False, None], ["True", "FALSE", ""], [1, 0, None], ["1.0", "0", "?"], [1.0, 0.0, None]):
        assert of(values, zero_one) == ["1", "0", None]
        assert of(values, words) == ["true", "false", None]
    assert of([True, False], NUMBER) == [1.0, 0.0]
    assert of(["2", "maybe"], zero_one) == ["2", "maybe"]


def test_dates_in_any_form() -> None:
    day = datetime(2020, 3, 1, tzinfo=UTC).timestamp()
    naive = datetime(2020, 3, 1)
    for values in (
        ["2020-03-01", None],
        [date(2020, 3, 1), None],
        pa.array([date(2020, 3, 1), None], pa.date64()),
        [naive, None],
        pa.array([naive, None], pa.timestamp("ns")),
        pa.array([datetime(2020, 3, 1, tzinfo=UTC), None], pa.timestamp("s", "Europe/Zurich")),
        ["2020-03-01T01:00+01:00", "soon"],
    ):
        assert of(values, DATE) == [day, None]
    assert of([20200301, None], Column("x", "date", "", order="compact")) == [day, None]


def test_lengths_of_time_are_numbers() -> None:
    assert of([timedelta(minutes=1), None], NUMBER) == [60.0, None]
    assert of([time(0, 1), None], NUMBER) == [60.0, None]


def test_sentinels_are_missing_in_any_form() -> None:
    column = Column("x", "number", "", sentinels=(-999.0,))
    assert of(["-999", "-999.0", "1"], column) == of([-999, -999, 1], column) == [None, None, 1.0]


def test_markers_that_are_values_stay() -> None:
    assert of(["-", "+", ""], Column("x", "category", "", kept=("-",))) == ["-", "+", None]
    assert of(["-", "+", ""], CATEGORY) == [None, "+", None]


def test_a_number_that_is_a_category_and_a_text_that_is_a_number() -> None:
    assert of([[1], [2]], NUMBER) == [None, None]
    assert of([[1], None], CATEGORY) == ["[1]", None]
    assert of(["a", "b"], NUMBER) == [None, None]


def test_absent_and_additional_columns_and_any_order() -> None:
    schema = Schema((NUMBER, Column("c", "category", ""), Column("d", "date", ""), Column("i", "ignored", "")))
    found = convert(pa.table({"more": [1, 2], "c": ["a", "b"]}), schema)
    assert list(found) == ["x", "c", "d"]
    assert np.isnan(found["x"]).all()
    assert np.isnan(found["d"]).all()
    assert found["c"].to_pylist() == ["a", "b"]
    with pytest.raises(DataError, match="none of the columns that are needed: expected x, c, d"):
        convert(pa.table({"more": [1], "i": [1]}), schema)


def test_no_rows() -> None:
    for values in (pa.array([], pa.string()), pa.array([], pa.float64()), pa.array([], pa.null())):
        for column in (NUMBER, CATEGORY, DATE, TEXT):
            assert of(values, column) == []


def test_a_file_written_otherwise_than_the_one_trained_on(tmp_path: Path) -> None:
    (tmp_path / "train.csv").write_text("x;y\n" + "".join(f"1.{i:03},5;a\n" for i in range(50)))
    (tmp_path / "new.csv").write_text("y,x\n" + "a,1.25\n" * 3 + "b,1.234\n")
    schema = infer_schema(read_table(tmp_path / "train.csv"))
    assert (schema["x"].decimal, schema["x"].thousands) == (",", ".")
    batches = [convert(batch, schema)["x"] for batch in open_batches(tmp_path / "new.csv", 2)]
    assert np.concatenate(batches).tolist() == [1.25, 1.25, 1.25, 1.234]
    (tmp_path / "same.csv").write_text("x;y\n7;a\n1.234;b\n")
    assert convert(read_table(tmp_path / "same.csv"), schema)["x"].tolist() == [7.0, 1234.0]


scalars = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(-(2**70), 2**70),
    st.floats(width=64),
    st.text(max_size=8),
    st.sampled_from(["NA", "?", "-", "1,5", "1.000,5", "5%", "2020-01-02", "3.0", "0", "true", "99999999"]),
    st.dates(),
    st.datetimes(),
    st.timedeltas(timedelta(-99), timedelta(99)),
    st.binary(max_size=4),
    st.lists(st.integers(0, 3), max_size=2),
    st.decimals(-1000, 1000, places=2),
)


@st.composite
def columns_of(draw: st.DrawFn, rows: int) -> list[Any]:
    """Values of one type mostly, of any mixture at times."""
    values = draw(st.one_of(*(st.lists(kind, min_size=rows, max_size=rows) for kind in (scalars, *KINDS))))
    return list(values)


KINDS = (st.booleans(), st.integers(-9, 9), st.floats(), st.text(max_size=4), st.datetimes(), st.dates())


@st.composite
def tables_of(draw: st.DrawFn) -> dict[str, list[Any]]:
    rows = draw(st.integers(0, 25))
    names = draw(st.lists(st.sampled_from("abcdef"), min_size=1, max_size=6, unique=True))
    return {name: draw(columns_of(rows)) for name in names}


@given(
    tables_of(), tables_of(), st.lists(st.sampled_from(["number", "category", "date", "text"]), min_size=6, max_size=6)
)
def test_any_table_is_converted(train: dict[str, Any], other: dict[str, Any], kinds: list[Any]) -> None:
    """With the schema of another table, and with any kinds at all."""
    data, new = read_table(train), read_table(other)
    inferred = infer_schema(data)
    drawn = Schema(tuple(Column(name, kind, "", order="dmy") for name, kind in zip("abcdef", kinds, strict=True)))
    for schema in (inferred, drawn):
        for table in (data, new):
            if schema.used and not {column.name for column in schema.used} & set(table.names):
                continue
            found = convert(table, schema)
            assert list(found) == [column.name for column in schema.used]
            for column in schema.used:
                values = found[column.name]
                assert len(values) == table.rows
                assert isinstance(values, np.ndarray if column.kind in ("number", "date") else pa.StringArray)
                if isinstance(values, np.ndarray):
                    assert not np.isinf(values).any()


def test_thousands_that_show_only_in_a_later_table() -> None:
    schema = infer_schema(read_table({"n": ["999", "1234", "2500", "12.5", "7"] * 6, "y": ["a", "b"] * 15}), "y")
    assert schema["n"].decimal == "."
    found = convert(read_table({"n": ["1,234", "0.5", "-12,345", "1,5", "0,123"]}), schema)["n"]
    assert found.tolist() == [1234.0, 0.5, -12345.0, 1.5, 0.123]
