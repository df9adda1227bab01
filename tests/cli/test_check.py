"""``nasfast check``: what it prints, and one line for what is wrong."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from nasfast.cli.app import app

TABLE = "id;size;kind;y\n" + "".join(f"{i};{i % 13},5;{'abc'[i % 3]};{'no' if i % 4 else 'yes'}\n" for i in range(120))


def invoke(*arguments: Any) -> Any:
    return CliRunner().invoke(app, ["check", *map(str, arguments)])


@pytest.fixture
def table(tmp_path: Path) -> Path:
    path = tmp_path / "table.csv"
    path.write_text(TABLE)
    return path


def test_what_is_printed(table: Path) -> None:
    result = invoke(table, "--target", "y")
    assert result.exit_code == 0, result.output
    lines = [" ".join(line.split()) for line in result.stdout.splitlines()]
    assert lines[:4] == [
        "table 120 rows, 4 columns",
        f"note {table}: columns parted by semicolons, decimal commas",
        "target y: binary (2 distinct texts)",
        "classes no 90, yes 30",
    ]
    assert "size number numbers, 13 distinct; decimal comma" in lines
    assert (
        "info id is not used: identifier: a whole number of its own in nearly every row; --types id=number uses it"
        in lines
    )


def test_json(table: Path) -> None:
    content = json.loads(invoke(table, "--target", "y", "--json").stdout)
    assert content["rows"] == 120
    assert content["target"]["task"] == "binary"
    assert [column["kind"] for column in content["schema"]["columns"]] == ["ignored", "number", "category"]
    assert content["findings"][0].keys() == {"severity", "column", "text", "advice"}


def test_kinds_and_roles_are_taken(table: Path) -> None:
    options = ["--types", "size=category", "--types", "id=number", "--group", "kind"]
    content = json.loads(invoke(table, "--target", "y", *options, "--json").stdout)
    assert {c["name"]: c["kind"] for c in content["schema"]["columns"]} == {"id": "number", "size": "category"}


def test_several_files(table: Path, tmp_path: Path) -> None:
    other = tmp_path / "other.csv"
    other.write_text(TABLE.replace(";", ",").replace(",5", ".5"))
    result = invoke(table, other, "--target", "y")
    assert f"file       {other}: 120 rows" in result.stdout


def test_a_terminal_gets_tables(table: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from nasfast.cli.check_page import print_check
    from nasfast.tables import read_table
    from nasfast.tables.checks import check_table

    result = check_table(read_table(table), "y")
    shown: list[str] = []

    class Terminal:
        encoding = "utf-8"

        def isatty(self) -> bool:
            return True

        def write(self, text: str) -> int:
            shown.append(text)
            return len(text)

        def flush(self) -> None:
            pass

    monkeypatch.setattr(sys, "stdout", Terminal())
    monkeypatch.setenv("COLUMNS", "120")
    print_check(result)
    text = "".join(shown)
    assert "what to do" in text
    assert "decimal comma" in text


@pytest.mark.parametrize(
    ("arguments", "what", "code"),
    [
        (["--target", "z"], "there is no column 'z' for the target", 1),
        (["--target", "kinde"], "did you mean 'kind'?", 1),
        (["--target", "id"], "as identifiers have", 1),
        (["--target", "y", "--task", "regression"], "expected numbers for --task regression", 1),
        (["--target", "y", "--task", "binry"], "did you mean binary?", 1),
        (["--target", "y", "--types", "size"], "--types must be COLUMN=KIND", 1),
        (["--target", "y", "--types", "size=nmber"], "did you mean number?", 1),
        (["--target", "y", "--group", "z"], "no column 'z' for the group", 1),
        ([], "Missing option '--target'", 2),
    ],
)
def test_what_is_wrong_is_one_line(table: Path, arguments: list[str], what: str, code: int) -> None:
    result = invoke(table, *arguments)
    assert result.exit_code == code
    assert result.stdout == ""
    assert len(result.stderr.splitlines()) == 1
    assert what in result.stderr


def test_files_that_are_none(tmp_path: Path) -> None:
    (tmp_path / "t.csv").write_text("a,y\n1,2\n3,4,5\n")
    result = invoke(tmp_path / "t.csv", "--target", "y")
    assert result.exit_code == 1
    assert "line 3 has 3 fields, the header 2" in result.stderr
    assert "No such file" in invoke(tmp_path / "none.csv", "--target", "y").stderr
