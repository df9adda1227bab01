"""Kinds of columns: what each is taken as, and the reason that is given."""

from __future__ import annotations

import json
from collections.abc import Sequence
from datetime import UTC, date, datetime
from decimal import Decimal
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from nasfast.errors import ConfigError, DataError
from nasfast.tables import Column, Schema, convert, infer_schema, parse_types, read_table

ROWS = 200


def column(values: Any, name: str = "x", **options: Any) -> Column:
    return infer_schema(pa.table({name: values}), **options)[name]


def repeated(*values: Any, rows: int = ROWS) -> list[Any]:
    return [values[i % len(values)] for i in range(rows)]


@pytest.mark.parametrize(
    ("values", "kind", "reason"),
    [
        ([f"{i / 7:.3f}" for i in range(ROWS)], "number", "numbers, 200 distinct"),
        (repeated("1", "2", "3", "4", "5"), "number", "whole numbers, 5 distinct, taken as a scale"),
        (repeated("0", "1"), "category", "two values, 0 and 1"),
        (repeated(1.0, 2.0), "category", "two values, 1 and 2"),
        (repeated("0.5", "1.5"), "number", "numbers, 2 distinct"),
        (repeated("95", "96"), "number", "whole numbers, 2 distinct"),
        (repeated("1,5", "2", "3,25"), "number", "numbers, 3 distinct; decimal comma"),
        (repeated("5%", "7%", "9.5%"), "number", "numbers, 3 distinct; percent signs left out: 5% is 5"),
        (repeated("$5", "$7", "$1,200.50"), "number", "numbers, 3 distinct; signs of currency left out, commas"),
        (repeated("a", "b", "c"), "category", "3 distinct texts"),
        (repeated("True", "FALSE"), "category", "true or false"),
        (repeated(True, False, None), "category", "true or false; 66 missing"),
        (repeated("01234", "56789", "99999"), "category", "3 distinct texts"),
        (repeated("x"), "ignored", "constant: x in every row"),
        (repeated(7), "ignored", "constant: 7 in every row"),
        (repeated("x", ""), "category", "x or missing (100 rows)"),
        (repeated(7.0, None), "category", "7 or missing (100 rows)"),
        (repeated("", "NA", "?", None), "ignored", "all values are missing"),
        (pa.nulls(ROWS), "ignored", "all values are missing"),
        ([str(i) for i in range(ROWS)], "ignored", "identifier: a whole number of its own in nearly every row"),
        ([f"K{i:05}" for i in range(ROWS)], "ignored", "identifier: a text of its own in nearly every row"),
        ([f"we have seen thing {i} here" for i in range(ROWS)], "text", "free text, 6 words on average"),
        ([[1, 2]] * ROWS, "ignored", "nested values and bytes are not used"),
        ([b"x", b"y"] * (ROWS // 2), "ignored", "nested values and bytes are not used"),
        ([date(2020, 1, 1 + i % 28) for i in range(ROWS)], "date", "of the type date32"),
        ([f"2020-01-{1 + i % 28:02}" for i in range(ROWS)], "date", "dates, year first"),
        ([f"{1 + i % 28:02}.01.2020" for i in range(ROWS)], "date", "dates, day first"),
        ([f"1/{1 + i % 28}/2020" for i in range(ROWS)], "date", "dates, month first"),
        ([20200101 + i % 28 for i in range(ROWS)], "date", "dates as year, month and day in digits"),
        ([Decimal(i) / 4 for i in range(ROWS)], "number", "numbers, 200 distinct"),
        (repeated("A", "B", "-", "+"), "category", "3 distinct texts; 50 missing (-)"),
        (repeated("-", "+"), "category", "2 distinct texts"),
    ],
)
def test_kinds(values: Any, kind: str, reason: str) -> None:
    found = column(values)
    assert (found.kind, reason in found.reason) == (kind, True), found


def test_measured_whole_numbers_are_no_identifiers() -> None:
    values = np.random.default_rng(0).permutation(100_000)[:ROWS]
    assert column(values, "price").kind == "number"
    assert column(values, "customer_id").kind == "ignored"
    assert column(values, "Unnamed: 0").kind == "ignored"
    assert column(values, "PassengerId").kind == "ignored"
    assert column([f"{value}" for value in values], "EmployeeNumber").kind == "ignored"
    assert column(values / 2.0, "id").kind == "number"
    assert column(repeated(*range(40)), "customer_id").kind == "number"


@pytest.mark.parametrize("marker", ["", " ", "NA", "n/a", "NaN", "NULL", "None", "?", "-", "#N/A", "<NA>"])
def test_markers_of_missing_values(marker: str) -> None:
    numbers = column([marker if i % 10 == 0 else str(i / 2) for i in range(ROWS)])
    assert numbers.kind == "number"
    assert "20 missing" in numbers.reason
    assert numbers.lost == 0
    assert "2 distinct texts; " in column(repeated("a", "b", marker)).reason


@pytest.mark.parametrize("value", [99999999, -999, 9999, -99999])
@pytest.mark.parametrize("text", [False, True])
def test_numbers_that_stand_for_missing(value: int, text: bool) -> None:
    numbers = [value if i % 10 == 0 else i % 97 + 0.5 for i in range(ROWS)]
    table = pa.table({"x": [f"{n:g}" if n != value else str(value) for n in numbers] if text else numbers})
    found = infer_schema(table)["x"]
    assert found.sentinels == (value,)
    assert f"{value} (20 rows) far from the rest, counted as missing" in found.reason
    assert found.alternative == "number"
    assert np.isnan(convert(table, Schema((found,)))["x"]).sum() == 20
    kept = infer_schema(table, overrides={"x": "number"})["x"]
    assert kept.sentinels == ()


def test_numbers_near_the_rest_stand_for_themselves() -> None:
    assert column([float(i % 1000) for i in range(2000)]).sentinels == ()
    assert column(repeated(999, *range(950, 1050))).sentinels == ()
    assert column(repeated(-999, -500, -100, 3, 700, 1500)).sentinels == ()
    assert column([99999999, *range(100, 100 + ROWS)]).sentinels == ()  # one alone may be an outlier


def test_few_texts_among_numbers_are_lost_and_said() -> None:
    found = column([f"{i / 2}" if i % 50 else "about 3" for i in range(ROWS)])
    assert (found.kind, found.lost) == ("number", 4)
    assert "4 rows with no number ('about 3') counted as missing" in found.reason
    assert column([f"{i / 2}" if i % 10 else f"v{i}" for i in range(ROWS)]).kind != "number"


def test_infinite_values_are_said() -> None:
    assert "20 infinite, counted as missing" in column([np.inf if i % 10 == 0 else i / 3 for i in range(ROWS)]).reason


def test_day_and_month_are_told_from_the_whole_column() -> None:
    early = [f"{1 + i % 12}/{1 + i % 11}/2020" for i in range(ROWS)]
    guessed = column(early)
    assert (guessed.order, guessed.alternative) == ("mdy", "date:dmy")
    assert "a guess, as no day is above 12" in guessed.reason
    assert column([*early, "25/1/2020"]).order == "dmy"
    assert column(early, overrides={"x": "date:dmy"}).order == "dmy"


def test_dates_that_could_be_either_follow_the_others() -> None:
    early = [f"{1 + i % 12}/{1 + i % 11}/2020" for i in range(ROWS)]
    late = [f"{1 + i % 28}/{1 + i % 11}/2020" for i in range(ROWS)]
    schema = infer_schema(pa.table({"early": early, "late": late}))
    assert schema["early"].order == schema["late"].order == "dmy"
    assert "as in other columns" in schema["early"].reason


def test_days_come_first_where_semicolons_part_columns(tmp_path: Any) -> None:
    dates = "".join(f"{1 + i % 12}/{1 + i % 11}/2020;a\n" for i in range(ROWS))
    for delimiter, order in ((";", "dmy"), (",", "mdy")):
        (tmp_path / "a.csv").write_text(f"x;y\n{dates}".replace(";", delimiter))
        assert infer_schema(read_table(tmp_path / "a.csv"))["x"].order == order


def test_commas_follow_the_delimiter(tmp_path: Any) -> None:
    (tmp_path / "a.csv").write_text("x;y\n" + "1,234;a\n2,345;b\n3,456;a\n" * 3)
    schema = infer_schema(read_table(tmp_path / "a.csv"))
    assert (schema["x"].decimal, schema["x"].alternative) == (",", "number:point")


def test_points_between_thousands_where_decimals_follow_a_comma(tmp_path: Any) -> None:
    values = ["888", "1.234", "2.500"] * 5
    for mark, expected, alternative in ((",", [888.0, 1234.0], "number:point"), (".", [888.0, 1.234], "")):
        rows = "".join(f"{i % 7}{mark}5;{value};a\n" for i, value in enumerate(values))
        (tmp_path / "a.csv").write_text(f"x;n;y\n{rows}")
        table = read_table(tmp_path / "a.csv")
        schema = infer_schema(table, "y")
        assert convert(table, schema)["n"][:2].tolist() == expected
        assert schema["n"].alternative == alternative
        assert ("may be decimal or between thousands" in schema["n"].reason) == bool(alternative)


def test_categories_of_dataframes_stay_categories() -> None:
    codes = pa.array(repeated("1", "2", "3", "4")).dictionary_encode()
    assert column(codes).kind == "category"
    assert column(pa.array(repeated(1, 2, 3, 4)).dictionary_encode()).kind == "category"


def test_roles_and_targets_are_no_features() -> None:
    table = pa.table({name: repeated("a", "b") for name in "abcdef"})
    schema = infer_schema(table, "f", {"group": "b", "time": None, "weight": "d"})
    assert [c.name for c in schema.columns] == ["a", "c", "e"]
    assert [c.name for c in infer_schema(table, ["a", "b"]).columns] == ["c", "d", "e", "f"]


def test_kinds_that_are_given() -> None:
    table = pa.table({"x": repeated("1", "2", "3"), "d": repeated("2020-01-02"), "s": repeated("a", "b")})
    given = infer_schema(table, overrides={"x": "category", "d": "date", "s": "ignored"})
    assert [c.kind for c in given.columns] == ["category", "date", "ignored"]
    assert given["x"].reason == "given as category, 3 distinct"
    assert infer_schema(table, overrides={"s": "text"})["s"].kind == "text"
    two = pa.table({"x": repeated("1,234", "2,345")})
    for mark, expected in (("comma", 1.234), ("point", 1234.0)):
        schema = infer_schema(two, overrides={"x": f"number:{mark}"})
        assert convert(two, schema)["x"][0] == expected


@pytest.mark.parametrize(
    ("overrides", "error", "what"),
    [
        ({"z": "number"}, ConfigError, "a kind is given for 'z', which is no feature"),
        ({"xx1": "number"}, ConfigError, "did you mean 'xx'"),
        ({"xx": "numbr"}, ConfigError, "did you mean number"),
        ({"xx": "number:dmy"}, ConfigError, "date:dmy"),
        ({"xx": "number"}, DataError, "'xx' is given as number, but holds 'a': expected a number"),
        ({"xx": "date"}, DataError, "'xx' is given as date, but holds 'a': expected a date"),
        ({"list": "number"}, DataError, "'list' is given as number, but is list.*: expected numbers"),
        ({"list": "date"}, DataError, "'list' is given as date, but is list.*: expected dates"),
    ],
)
def test_kinds_that_cannot_be(overrides: dict[str, str], error: type[Exception], what: str) -> None:
    table = pa.table({"xx": repeated("a", "b"), "list": repeated([1], [2])})
    with pytest.raises(error, match=what):
        infer_schema(table, overrides=overrides)


def test_columns_that_are_not_there() -> None:
    table = pa.table({"price": [1, 2], "b": [1, 2]})
    with pytest.raises(DataError, match="no column 'prise' for the target; did you mean 'price'"):
        infer_schema(table, "prise")
    with pytest.raises(DataError, match="no column 'c' for the group"):
        infer_schema(table, "b", {"group": "c"})
    with pytest.raises(DataError, match="no column beside the target"):
        infer_schema(table, ["price", "b"])


def test_types_as_an_option() -> None:
    assert parse_types(["a=number,b c=date:dmy", "d=text"]) == {"a": "number", "b c": "date:dmy", "d": "text"}
    assert parse_types(["x, y=text,z=number"]) == {"x, y": "text", "z": "number"}
    assert parse_types(["a=b=text"]) == {"a=b": "text"}
    for text, what in (("a", "must be COLUMN=KIND"), ("a=text,a=number", "twice")):
        with pytest.raises(ConfigError, match=what):
            parse_types([text])


def tables() -> Sequence[Any]:
    early = [f"{1 + i % 12}/{1 + i % 11}/2020" for i in range(ROWS)]
    stamp = datetime(2020, 1, 1, tzinfo=UTC)
    return [
        pa.table(
            {"a": early, "b": repeated("1,5", "2", "-999"), "c": repeated("0", "1"), "d": repeated(-999, 1, 2, 3)}
        ),
        pa.table({"a": repeated(stamp, None), "b": repeated("-", "+", "NA"), "c": repeated("x", "0.5", "?")}),
    ]


@pytest.mark.parametrize("table", tables())
def test_a_schema_survives_json(table: Any) -> None:
    schema = infer_schema(table)
    assert Schema.from_json(json.loads(json.dumps(schema.to_json()))) == schema


@pytest.mark.parametrize(
    ("change", "what"),
    [
        (lambda c: c.update(format=2), "format 2: expected 1"),
        (lambda c: c.update(more=1), "the schema has an unknown key 'more'"),
        (lambda c: c.pop("columns"), "no object with a list of columns"),
        (lambda c: c["columns"].append(c["columns"][0]), "'x' twice"),
        (lambda c: c["columns"].append(7), "column 2 of the schema is int"),
        (lambda c: c["columns"][0].update(kind="numbr"), "'kind' of column 'x' of the schema must be one of .*did you"),
        (lambda c: c["columns"][0].update(knd="number"), "unknown key 'knd'; did you mean kind"),
        (lambda c: c["columns"][0].pop("reason"), "column 'x' of the schema has no 'reason'"),
        (lambda c: c["columns"][0].update(sentinels=["a"]), "'sentinels' of column 'x'"),
        (lambda c: c["columns"][0].update(decimal=1), "'decimal' of column 'x'"),
    ],
)
def test_a_schema_that_is_none(change: Any, what: str) -> None:
    content = Schema((Column("x", "number", "numbers"),)).to_json()
    change(content)
    with pytest.raises(DataError, match=what):
        Schema.from_json(content)
