"""From columns to arrays."""

import numpy as np
import pyarrow as pa
import pytest

from nasfast.automl.prepare import FIRST_LEVEL, LARGEST, MISSING, UNSEEN, Preparation
from nasfast.automl.text import TextSource
from nasfast.errors import RunError
from nasfast.tables import convert, infer_schema, read_table
from tests.helpers.real_tables import mixed_rows


@pytest.fixture(scope="module")
def columns():
    table = read_table(mixed_rows(400))
    schema = infer_schema(table, target="bought")
    return schema, convert(table, schema), table.rows


def test_numbers_dates_and_categories_become_two_arrays(columns):
    schema, converted, rows = columns
    preparation = Preparation.of(converted, schema)
    prepared = preparation.apply(converted, rows)
    assert preparation.names() == ["age", "since (days)", "since (month)", "since (weekday)", "city"]
    assert prepared.numbers.shape == (rows, 4)
    assert prepared.numbers.dtype == np.float32
    assert 0.05 < np.isnan(prepared.numbers[:, 0]).mean() < 0.15
    assert prepared.codes.dtype == np.int16
    assert preparation.codes[0].levels == ("Bern", "Oslo", "Rome", "Lima")
    assert set(np.unique(prepared.codes)) == {2, 3, 4, 5}


def test_parts_of_a_date_are_those_of_the_calendar():
    texts = ["2024-02-29 13:45:00", "1969-12-31 23:00:00", "", "2000-01-01 00:00:00"] * 10
    table = read_table({"when": texts, "y": ["a", "b"] * 20})
    schema = infer_schema(table, target="y")
    converted = convert(table, schema)
    found = Preparation.of(converted, schema).apply(converted, 40).numbers[:4]
    names = Preparation.of(converted, schema).names()
    assert names == ["when (days)", "when (month)", "when (weekday)", "when (hour)"]
    assert found[0].tolist() == [19782.0, 2.0, 3.0, 13.0]  # a Thursday
    assert found[1].tolist() == [-1.0, 12.0, 2.0, 23.0]
    assert np.isnan(found[2]).all()
    assert found[3].tolist() == [10957.0, 1.0, 5.0, 0.0]


def test_a_level_of_one_row_is_as_unseen(columns):
    preparation = Preparation.of({"c": pa.array(["a", "a", "b", None, "c", "c"])}, _categories("c"))
    assert preparation.codes[0].levels == ("a", "c")
    got = preparation.apply({"c": pa.array(["c", "b", None, "new", "a"])}, 5).codes[:, 0]
    assert got.tolist() == [FIRST_LEVEL + 1, UNSEEN, MISSING, UNSEEN, FIRST_LEVEL]


def _categories(name):
    table = read_table({name: ["u", "v", "u", "v", "u", "v"] * 5, "y": ["1", "2"] * 15})
    return infer_schema(table, target="y", overrides={name: "category"})


def test_what_float32_does_not_hold_is_its_largest_and_no_row_is_no_error(columns):
    schema, converted, _ = columns
    preparation = Preparation.of(converted, schema)
    one = {"age": np.array([1e300]), "city": pa.array([None], pa.string()), "since": np.array([np.nan])}
    assert preparation.apply(one, 1).numbers[0, 0] == np.float32(LARGEST)
    none = {"age": np.empty(0), "city": pa.array([], pa.string()), "since": np.empty(0)}
    assert len(preparation.apply(none, 0)) == 0


def test_it_comes_back_from_json(columns):
    schema, converted, _ = columns
    preparation = Preparation.of(converted, schema)
    assert Preparation.from_json(preparation.to_json(), {}) == preparation
    with pytest.raises(RunError, match="numbers, codes and texts of columns"):
        Preparation.from_json({"numbers": [1]}, {})


def test_texts_that_say_the_same_lie_near_each_other():
    rng = np.random.default_rng(0)
    good = ["great", "happy", "smooth", "fast", "friendly"]
    bad = ["broken", "angry", "slow", "noisy", "rude"]
    texts = [f"The ride was {' '.join(rng.choice(words, 3))}." for words in (good, bad) for _ in range(100)]
    source = TextSource.of("review", pa.array(texts))
    found = source.apply(
        pa.array(["A GREAT, smooth and happy ride", "happy friendly fast", "rude angry slow", None, ""])
    )
    assert source.names[:2] == ["review (words)", "review (text 1)"]
    assert found[:, 0].tolist()[:3] == [6, 3, 3]
    places = found[:, 1:]
    assert np.linalg.norm(places[0] - places[1]) < np.linalg.norm(places[1] - places[2])
    assert np.isnan(found[3]).all()
    assert found[4].tolist() == [0.0] * found.shape[1]
    stored = Preparation((), (), (source,))
    again = Preparation.from_json(stored.to_json(), stored.to_arrays())
    assert (again.texts[0].apply(pa.array(texts)) == source.apply(pa.array(texts))).all()
