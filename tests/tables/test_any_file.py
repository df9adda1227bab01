"""Any file is a table or one DataError, and what was written is read."""

from __future__ import annotations

import csv
import gzip
import io
import json
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from nasfast.errors import NasfastError
from nasfast.tables import convert, infer_schema, open_batches, read_table
from tests.helpers.texts import near

cells = st.one_of(
    st.text(st.characters(exclude_characters="\0", codec="utf-8"), max_size=6),
    st.sampled_from(["", " ", '"', '""', ",", ";", "\t", "|", "\n", "\r\n", "\\", '\\"', "'x'", "1,5", "0.5", "NA"]),
)
names = st.lists(st.text("abcxyz", min_size=1, max_size=3), min_size=2, max_size=4, unique=True)


@st.composite
def tables(draw: st.DrawFn) -> dict[str, list[str]]:
    rows = draw(st.integers(1, 6))
    return {name: draw(st.lists(cells, min_size=rows, max_size=rows)) for name in draw(names)}


def as_csv(table: dict[str, list[str]], delimiter: str = ",", ending: str = "\n") -> str:
    text = io.StringIO(newline="")
    values = "".join(value for column in table.values() for value in column)
    quoting = csv.QUOTE_ALL if "\r" in values else csv.QUOTE_MINIMAL  # not all versions of Python quote it else
    writer = csv.writer(text, delimiter=delimiter, lineterminator=ending, quoting=quoting)
    writer.writerow(table)
    writer.writerows(zip(*table.values(), strict=True))
    return text.getvalue()


def read(content: bytes, name: str = "table.csv") -> Any:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / name
        path.write_bytes(content)
        whole = read_table(path)
        batches = list(open_batches(path, 2))
    assert pa.concat_tables([pa.Table.from_batches([b]) for b in batches], promote_options="permissive").num_rows == (
        whole.rows
    )
    return whole


@given(tables(), st.sampled_from([",", ";", "\t", "|"]), st.sampled_from(["\n", "\r\n"]), st.booleans())
def test_what_was_written_is_read(table: dict[str, list[str]], delimiter: str, ending: str, packed: bool) -> None:
    content = as_csv(table, delimiter, ending).encode()
    assert read(gzip.compress(content) if packed else content).data.to_pydict() == table


@given(tables())
def test_json_lines_that_were_written_are_read(table: dict[str, list[str]]) -> None:
    rows = [dict(zip(table, row, strict=True)) for row in zip(*table.values(), strict=True)]
    content = "\n".join(json.dumps(row) for row in rows)
    assert read(content.encode(), "table.jsonl").data.to_pydict() == table


ARFF = "@relation r\n@attribute a real\n@attribute 'b c' {x,'y z'}\n@data\n1,x\n{0 2}\n?,'y z'\n"
wrong = st.one_of(
    near(tables().map(as_csv)), near(st.just(ARFF)), near(st.just('{"a": 1, "b": [2]}\n{"a": "x"}\n')), st.text()
)


def outcome(call: Callable[[], Any]) -> tuple[Any, str]:
    """What a call gives, or the message of its error."""
    try:
        return call(), ""
    except NasfastError as error:
        return None, str(error)


@settings(max_examples=150)
@example(b"a,b\n\xff\xfe\n")
@example(b"\x1f\x8b")
@example(b"PAR1")
@example(b"ARROW1")
@example(b"\xff\xff\xff\xff\0\0\0\0")
@example(b"sep=,")
@example(b",")
@example(b'"')
@example(b"@relation")
@example(b"[{}]")
@example(b'aa\n,\n,\n"\n",\n')
@given(st.one_of(wrong.map(lambda text: text.encode("utf-8", "surrogatepass")), st.binary(max_size=60)))
def test_any_file_is_a_table_or_one_line(content: bytes) -> None:
    table, message = outcome(lambda: read(content))
    assert "\n" not in message
    schema, message = outcome(lambda: infer_schema(table)) if table else (None, "")
    assert "\n" not in message
    if schema and schema.used:
        assert all(len(values) == table.rows for values in convert(table, schema).values())


@pytest.mark.parametrize("kind", ["parquet", "feather"])
def test_any_damage_to_a_file_of_columns_is_one_line(tmp_path: Path, kind: str) -> None:
    from pyarrow import feather, parquet

    path = tmp_path / f"t.{kind}"
    table = pa.table({"a": list(range(50)), "b": [f"x{i}" for i in range(50)]})
    parquet.write_table(table, path) if kind == "parquet" else feather.write_feather(table, path)
    content = path.read_bytes()
    for place in range(8, len(content), 7):
        path.write_bytes(content[:place])
        with pytest.raises(NasfastError) as caught:
            read_table(path)
        assert "\n" not in str(caught.value)
        path.write_bytes(content[:place] + bytes([content[place] ^ 0x55]) + content[place + 1 :])
        assert "\n" not in outcome(lambda: read_table(path))[1]
