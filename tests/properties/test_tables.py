"""Tables of scores: a whole one gives its scores back, and any file is a table or one DataError."""

from __future__ import annotations

import csv
import io
import json
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import nasfast
from nasfast.errors import DataError
from nasfast.estimators.table import TableEstimator
from nasfast.spaces.nasbench_macro import NASBenchMacro
from tests.helpers.texts import near

SPACE = NASBenchMacro()
rows = st.tuples(*(st.integers(0, size - 1) for size in SPACE.sizes.tolist()))
scores = st.floats(allow_nan=False, allow_infinity=False)
tables = st.dictionaries(rows, scores, min_size=1, max_size=5)


def table_of(content: str | bytes, ending: str) -> TableEstimator:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / f"table.{ending}"
        path.write_bytes(content if isinstance(content, bytes) else content.encode("utf-8", "surrogatepass"))
        return TableEstimator(path, SPACE)


def as_json(table: dict[tuple[int, ...], float]) -> str:
    return json.dumps({SPACE.decode(row): score for row, score in table.items()})


def as_csv(table: dict[tuple[int, ...], float]) -> str:
    file = io.StringIO()
    writer = csv.writer(file)
    writer.writerows([("arch", "score"), *((SPACE.decode(row), repr(score)) for row, score in table.items())])
    return file.getvalue()


@pytest.mark.parametrize(("write", "ending"), [(as_json, "json"), (as_csv, "csv")], ids=["json", "csv"])
@given(table=tables)
def test_scores_come_back_from_a_file(write: Any, ending: str, table: dict[tuple[int, ...], float]) -> None:
    found = table_of(write(table), ending)
    assert len(found) == len(table)
    assert [estimate.score for estimate in found.estimate(np.array(list(table)))] == list(table.values())


words = st.one_of(st.sampled_from(["score", "9", "81", "archs"]), st.text(max_size=3))
values = st.recursive(
    st.one_of(st.none(), st.booleans(), st.integers(), st.floats(), st.text(max_size=3)),
    lambda inner: st.one_of(
        st.lists(inner, max_size=5),
        st.dictionaries(
            st.one_of(st.sampled_from(["score", "9", "81", "archs"]), st.text(max_size=3)), inner, max_size=3
        ),
    ),
    max_leaves=10,
)
keys = st.one_of(rows.map(SPACE.decode), st.just("archs"), st.text(max_size=4))


@settings(max_examples=300)
@given(
    st.one_of(
        near(tables.map(as_json)), values.map(json.dumps), st.dictionaries(keys, values, max_size=3).map(json.dumps)
    )
)
def test_any_json_is_a_table_or_an_error(text: str) -> None:
    _table_or_error(text, "json")


@settings(max_examples=300)
@given(st.one_of(near(tables.map(as_csv)), st.binary(max_size=40)))
def test_any_csv_is_a_table_or_an_error(content: str | bytes) -> None:
    _table_or_error(content, "csv")


def _table_or_error(content: str | bytes, ending: str) -> None:
    try:
        found = table_of(content, ending)
    except DataError:
        return
    assert len(found) > 0
    assert np.isfinite([estimate.score for estimate in found.estimate(np.array(list(found._rows[None])))]).all()


@pytest.mark.parametrize("content", ['{"a": ' + "9" * 400 + "}", "[" * 200_000])
def test_numbers_and_nesting_beyond_all_measure_are_no_table(tmp_path, content):
    path = tmp_path / "table.json"
    path.write_text(content)
    with pytest.raises(DataError):
        TableEstimator(path, nasfast.make_space("nasbench201"))
