"""Parquet, Feather, JSON lines, ARFF, several files, and tables in memory."""

from __future__ import annotations

import json
from importlib.resources import files
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from pyarrow import feather, parquet

from nasfast.errors import DataError
from nasfast.tables import infer_schema, open_batches, read_table
from nasfast.tables.files import find_format

TABLE = pa.table({"n": [1, 2, None], "x": [0.5, None, 2.5], "s": ["a", None, "b"]})


def openml(number: int) -> Path:
    """A table of OpenML that scikit-learn brings with its own tests."""
    folder = Path(str(files("sklearn"))) / f"datasets/tests/data/openml/id_{number}"
    return next(folder.glob("data*.arff.gz"))


def test_parquet_and_feather_keep_their_types(tmp_path: Path) -> None:
    parquet.write_table(TABLE, tmp_path / "t.parquet")
    feather.write_feather(TABLE, tmp_path / "t.feather")
    with pa.OSFile(str(tmp_path / "t.arrows"), "wb") as sink, pa.ipc.new_stream(sink, TABLE.schema) as writer:
        writer.write_table(TABLE)
    for name in ("t.parquet", "t.feather", "t.arrows"):
        assert read_table(tmp_path / name).data.equals(TABLE)
        assert [b.num_rows for b in open_batches(tmp_path / name, 2)] == [2, 1]


def test_labels_of_rows_of_pandas_are_no_column(tmp_path: Path) -> None:
    table = TABLE.append_column("__index_level_0__", pa.array([7, 5, 9]))
    parquet.write_table(table, tmp_path / "t.parquet")
    assert read_table(tmp_path / "t.parquet").data.equals(TABLE)
    assert read_table(table).data.equals(TABLE)


@pytest.mark.parametrize(("name", "what"), [("t.parquet", "Parquet"), ("t.feather", "Feather")])
def test_a_damaged_file_of_columns(tmp_path: Path, name: str, what: str) -> None:
    parquet.write_table(TABLE, tmp_path / "t.parquet")
    feather.write_feather(TABLE, tmp_path / "t.feather")
    path = tmp_path / name
    path.write_bytes(path.read_bytes()[:-40])
    with pytest.raises(DataError, match=f"t.{what.lower()} is damaged or cut short .*: expected a whole {what} file"):
        read_table(path)


def test_json_lines(tmp_path: Path) -> None:
    path = tmp_path / "t.jsonl"
    path.write_text('{"a": 1, "b": "x", "c": true}\n\n{"b": null, "a": 2.50, "d": {"e": [1]}}\n')
    table = read_table(path)
    assert table.data.to_pydict() == {
        "a": ["1", "2.50"],
        "b": ["x", None],
        "c": ["true", None],
        "d": [None, '{"e": ["1"]}'],
    }
    assert "nested" in table.notes[0]


def test_a_json_array_of_rows(tmp_path: Path) -> None:
    path = tmp_path / "t.json"
    path.write_text(json.dumps([{"a": 1}, {"a": 2}], indent=2))
    assert read_table(path).data.to_pydict() == {"a": ["1", "2"]}


@pytest.mark.parametrize(
    ("content", "what"),
    [
        ('{"a": 1}\n{"a": \n', "line 2 is not valid JSON"),
        ('{"a": 1}\n[1]\n', "line 2 is no JSON object"),
        ('[{"a": 1}, 2]', "row 2 is no JSON object"),
        ("{}\n{}\n", "objects without names"),
    ],
)
def test_json_that_is_no_table(tmp_path: Path, content: str, what: str) -> None:
    (tmp_path / "t.jsonl").write_text(content)
    with pytest.raises(DataError, match=what):
        read_table(tmp_path / "t.jsonl")


ARFF = """% a comment
@relation 'my table'
@ATTRIBUTE size real
@attribute 'the colour' {red, 'light, blue', "dark"}
@attribute code {0, 1, 2}
@attribute note string
@data
% another
1.5, red, 0, 'it''s'
?, 'light, blue', 1, "two, words"
{0 2.5, 2 2}
"""


def test_arff(tmp_path: Path) -> None:
    (tmp_path / "t.arff").write_text(ARFF.replace("'it''s'", "'it\\'s'"))
    table = read_table(tmp_path / "t.arff")
    assert table.data.to_pydict() == {
        "size": ["1.5", None, "2.5"],
        "the colour": ["red", "light, blue", "red"],
        "code": ["0", "1", "2"],
        "note": ["it's", "two, words", "0"],
    }
    assert infer_schema(table)["code"].kind == "category"


@pytest.mark.parametrize(
    ("content", "what"),
    [
        ("@relation r\n@attribute a real\n@data\n1,2\n", "line 4 has 2 values: expected 1"),
        ("@relation r\n@attribute a colour\n@data\n1\n", "line 2 declares the type colour"),
        ("@relation r\n@attribute a real\n", "has no @data"),
        ("@relation r\n@data\n", "has no columns"),
        ("@relation r\nsize real\n@data\n", "line 2 is no line of an ARFF header"),
        ("@relation r\n@attribute a real\n@data\n{3 1}\n", "line 4 has 3 1"),
    ],
)
def test_arff_that_is_none(tmp_path: Path, content: str, what: str) -> None:
    (tmp_path / "t.arff").write_text(content)
    with pytest.raises(DataError, match=what):
        read_table(tmp_path / "t.arff")


def test_the_titanic() -> None:
    table = read_table(openml(40945))
    schema = infer_schema(table, "survived")
    kinds = {column.name: column.kind for column in schema.columns}
    assert table.rows == 1309
    assert kinds["age"] == kinds["fare"] == "number"
    assert kinds["sex"] == kinds["embarked"] == kinds["cabin"] == "category"
    assert kinds["name"] == "text"


def test_files_of_one_table(tmp_path: Path) -> None:
    (tmp_path / "one.csv").write_text("a,b\n1,x\n2,y\n")
    (tmp_path / "two.tsv").write_text("b\ta\nz\t3\n")
    table = read_table([tmp_path / "one.csv", tmp_path / "two.tsv"])
    assert table.data.to_pydict() == {"a": ["1", "2", "3"], "b": ["x", "y", "z"]}
    assert [part.rows for part in table.parts] == [2, 1]


def test_files_that_write_numbers_otherwise(tmp_path: Path) -> None:
    (tmp_path / "one.csv").write_text("a,b\n1.5,x\n2.25,y\n")
    (tmp_path / "two.csv").write_text("a;b\n3,5;x\n1.004,25;y\n")
    table = read_table([tmp_path / "one.csv", tmp_path / "two.csv"])
    assert table.data.column("a").to_pylist() == ["1.5", "2.25", "3.5", "1004.25"]
    again = read_table([tmp_path / "two.csv", tmp_path / "one.csv"])
    assert again.data.column("a").to_pylist() == ["3.5", "1004.25", "1.5", "2.25"]


def test_files_of_other_types(tmp_path: Path) -> None:
    parquet.write_table(TABLE, tmp_path / "t.parquet")
    (tmp_path / "t.csv").write_text("n,x,s\n7,0.25,c\n")
    table = read_table([tmp_path / "t.parquet", tmp_path / "t.csv"])
    assert table.data.column("n").to_pylist() == ["1", "2", None, "7"]
    assert any("other types" in note for note in table.notes)


@pytest.mark.parametrize(
    ("other", "what"),
    [
        ("a,c\n1,2\n", "two.csv has the column c, .*one.csv has not"),
        ("a\n1\n", "two.csv has no column b, .*one.csv has"),
    ],
)
def test_files_of_other_columns(tmp_path: Path, other: str, what: str) -> None:
    (tmp_path / "one.csv").write_text("a,b\n1,x\n")
    (tmp_path / "two.csv").write_text(other)
    with pytest.raises(DataError, match=what):
        read_table([tmp_path / "one.csv", tmp_path / "two.csv"])


class Frame:
    """What polars and others offer: a table as a stream of Arrow."""

    def __init__(self, table: Any) -> None:
        self.table = table

    def __arrow_c_stream__(self, requested_schema: Any = None) -> Any:
        return self.table.__arrow_c_stream__(requested_schema)


@pytest.mark.parametrize("value", [TABLE, TABLE.to_batches()[0], Frame(TABLE), TABLE.to_pydict()])
def test_tables_in_memory(value: Any) -> None:
    table = read_table(value)
    assert table.data.to_pydict() == TABLE.to_pydict()
    assert [part.name for part in table.parts] == [""]


def test_arrays() -> None:
    table = read_table(np.array([[1.0, 2.0], [3.0, np.nan]]))
    assert table.names == ["x0", "x1"]
    mixed = read_table(np.array([[1, "a"], [None, True]], dtype=object))
    assert mixed.data.column("x1").to_pylist() == ["a", "true"]


def test_columns_of_mixed_types_are_text() -> None:
    assert read_table({"a": [1, "x", 2.5, True, None]}).data.column("a").to_pylist() == ["1", "x", "2.5", "true", None]


@pytest.mark.parametrize(
    ("value", "what"),
    [
        (np.zeros(3), "1 dimension: expected two"),
        ({"a": [1], "b": [1, 2]}, "1 to 2 values"),
        ({"a": "text"}, "a column is str"),
        ([], "expected paths of files"),
        (7, "expected paths of files"),
    ],
)
def test_what_is_no_table(value: Any, what: str) -> None:
    with pytest.raises(DataError, match=what):
        read_table(value)


def test_nan_in_memory_is_missing() -> None:
    assert read_table({"a": np.array([1.0, np.nan])}).data.column("a").null_count == 1


@pytest.mark.parametrize("name", ["t.arff", "t.csv"])
def test_long_comments_with_lines_of_windows_are_read_at_once(tmp_path: Path, name: str) -> None:
    path = tmp_path / name
    comments = "".join(f"% line {i} of what is said before the table begins\r\n\r\n" for i in range(200))
    body = "@relation t\r\n@attribute a numeric\r\n@attribute b {u,v}\r\n@data\r\n1,u\r\n2,v\r\n"
    path.write_bytes((comments + body).encode())
    assert find_format(path) == ("arff" if name == "t.arff" else "delimited")
    if name == "t.arff":
        assert read_table([path]).data.to_pydict() == {"a": ["1", "2"], "b": ["u", "v"]}


def test_half_of_a_character_in_json_is_replaced(tmp_path: Path) -> None:
    path = tmp_path / "t.jsonl"
    path.write_text('{"t": "ab\\ud83d", "n": 1}\n{"t": "c", "n": [2, "\\ud83d"]}\n')
    assert read_table([path]).data.to_pydict() == {"t": ["ab?", "c"], "n": ["1", '["2", "?"]']}


def test_a_field_longer_than_the_limit_of_the_module_is_read(tmp_path: Path) -> None:
    path = tmp_path / "t.csv"
    long = "x" * 200_000
    path.write_text(f"a,b\n{long},1\nshort,2\n")
    assert read_table([path]).data.to_pydict() == {"a": [long, "short"], "b": ["1", "2"]}
