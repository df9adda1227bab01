"""The target: the task that is told from its values, with the reason, and the values as numbers."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from nasfast.errors import ConfigError, DataError
from nasfast.tables import Target, TargetSpec, encode_target, read_target

ROWS = 120


def target(values: Any, task: str = "auto") -> Target:
    return read_target(pa.table({"y": values, "x": np.arange(len(values))}), "y", task)


def repeated(*values: Any) -> list[Any]:
    return [values[i % len(values)] for i in range(ROWS)]


@pytest.mark.parametrize(
    ("values", "task", "classes", "others"),
    [
        (repeated("yes", "no"), "binary", ("no", "yes"), ()),
        (repeated("yes", "no", None, ""), "binary", ("no", "yes"), ()),
        (repeated(True, False), "binary", ("false", "true"), ()),
        (repeated("True", "False"), "binary", ("False", "True"), ()),
        (repeated(1.0, 0.0, None), "binary", ("0", "1"), ()),
        (repeated("+", "-"), "binary", ("+", "-"), ()),
        (repeated("b", "c", "a"), "multiclass", ("a", "b", "c"), ()),
        (repeated("none", "mild", "severe"), "multiclass", ("mild", "none", "severe"), ()),
        ([str(i % 10) for i in range(ROWS)], "multiclass", tuple("0123456789"), ("regression",)),
        (repeated(1, 2, 3, 4, 5), "multiclass", tuple("12345"), ("regression",)),
        ([i % 12 for i in range(ROWS)], "regression", (), ("multiclass",)),
        ([i % 60 for i in range(ROWS)], "regression", (), ()),
        (repeated(0.5, 1.0, 1.5), "regression", (), ()),
        ([f"{i},5" for i in range(ROWS)], "regression", (), ()),
        (repeated("a|b", "b", "c", "a|c"), "multilabel", ("a", "b", "c"), ("multiclass",)),
        (pa.array(repeated(3, 1, 2)).dictionary_encode(), "multiclass", ("1", "2", "3"), ()),
    ],
)
def test_tasks(values: Any, task: str, classes: tuple[str, ...], others: tuple[str, ...]) -> None:
    found = target(values)
    assert (found.task, found.classes, found.alternatives) == (task, classes, others)
    assert found.reason
    assert TargetSpec.from_json(json.loads(json.dumps(found.spec.to_json()))) == found.spec


def test_classes_are_codes_and_rows_without_one_are_left_out() -> None:
    found = target(["b", None, "a", "?", "b", ""])
    assert found.y.tolist() == [1, 0, 1]
    assert found.y.dtype == np.int64
    assert found.rows.tolist() == [0, 2, 4]
    assert found.dropped == 3


def test_numbers_are_in_order_of_their_size() -> None:
    assert target(["10", "9", "2"] * 20).classes == ("2", "9", "10")


def test_numbers_stay_numbers() -> None:
    found = target([1.5, None, 2.5, float("nan"), float("inf")] * 20)
    assert found.y.tolist() == [1.5, 2.5] * 20
    assert found.y.dtype == np.float64
    assert found.dropped == 60


def test_sentinels_of_a_target_are_said_and_left_out() -> None:
    found = target([99999999 if i % 20 == 0 else i / 2 for i in range(ROWS)])
    assert found.dropped == 6
    assert "99999999, far from the rest, counted as missing" in found.reason


def test_several_labels() -> None:
    found = target(["a | b", "b", "c|", None, "a|c"] * 20)
    assert found.y[:4].tolist() == [[1, 1, 0], [0, 1, 0], [0, 0, 1], [1, 0, 1]]
    assert found.dropped == 20


def test_the_task_that_is_given() -> None:
    assert target(repeated(1, 2, 3), "regression").y[:3].tolist() == [1.0, 2.0, 3.0]
    assert target([i % 12 for i in range(ROWS)], "multiclass").classes[-1] == "11"
    assert target(repeated(0.5, 1.5), "binary").classes == ("0.5", "1.5")
    assert target(repeated("a|b", "b"), "multiclass").classes == ("a|b", "b")


@pytest.mark.parametrize(
    ("values", "task", "what"),
    [
        (repeated("a"), "auto", "has one value, 'a', in all rows that have one"),
        (repeated(1.0, None), "auto", "has one value"),
        (repeated(None, ""), "auto", "is missing in all rows"),
        ([f"person {i}" for i in range(ROWS)], "auto", "as identifiers and free text have"),
        (list(range(ROWS)), "auto", "as identifiers have"),
        ([f"2020-01-{1 + i % 28:02}" for i in range(ROWS)], "auto", "holds dates, such as '2020-01-01'"),
        ([[1]] * ROWS, "auto", "is of the type list"),
        (repeated("a", "b", "c"), "binary", "has 3 distinct values: expected two for --task binary"),
        (repeated("a", "b"), "regression", "holds 'a': expected numbers for --task regression"),
        ([i / 7 for i in range(ROWS)], "multiclass", "as identifiers and free text have"),
    ],
)
def test_targets_that_cannot_be(values: Any, task: str, what: str) -> None:
    with pytest.raises(DataError, match=what):
        target(values, task)


def test_names_of_targets_and_tasks() -> None:
    with pytest.raises(DataError, match="no column 'z' for the target"):
        read_target(pa.table({"y": ["a", "b"]}), "z")
    with pytest.raises(ConfigError, match=r"--task must be one of auto, .*did you mean regression"):
        target(repeated("a", "b"), "regresion")


def test_another_table_is_read_by_the_same_target() -> None:
    spec = target(repeated("b", "a")).spec
    y, rows = encode_target(pa.table({"y": ["a", None, "b"]}), spec)
    assert (y.tolist(), rows.tolist()) == ([0, 1], [0, 2])
    with pytest.raises(DataError, match="'y' has the class 'c': expected one of a, b"):
        encode_target(pa.table({"y": ["a", "c"]}), spec)
    numbers = target(repeated(1, 2, 3)).spec
    assert encode_target(pa.table({"y": ["2.0", "3"]}), numbers)[0].tolist() == [1, 2]


def test_a_target_that_is_none() -> None:
    content = target(repeated("b", "a")).spec.to_json()
    with pytest.raises(DataError, match="'task' of the target must be one of"):
        TargetSpec.from_json({**content, "task": "x"})
    with pytest.raises(DataError, match="unknown key 'more'"):
        TargetSpec.from_json({**content, "more": 1})
