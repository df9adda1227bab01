"""Delimited files: how they are written is found out, what is irregular is mended or named by its line."""

from __future__ import annotations

import gzip
import os
from pathlib import Path

import pytest

from nasfast.errors import DataError
from nasfast.tables import TableData, open_batches, read_table

ROWS = "a,b,c\n1,x,2.5\n2,y,3.5\n3,z,4.5\n"


def write(folder: Path, content: str | bytes, name: str = "table.csv") -> Path:
    path = folder / name
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return path


def values(table: TableData) -> dict[str, list[str | None]]:
    return table.data.to_pydict()


def refused(path: Path) -> str:
    with pytest.raises(DataError) as caught:
        read_table(path)
    message = str(caught.value)
    assert "\n" not in message
    assert str(path) in message
    return message.replace(f"{path}", "FILE")


@pytest.mark.parametrize("delimiter", [",", ";", "\t", "|"])
def test_any_delimiter_is_found(tmp_path: Path, delimiter: str) -> None:
    path = write(tmp_path, ROWS.replace(",", delimiter))
    assert values(read_table(path)) == {"a": ["1", "2", "3"], "b": ["x", "y", "z"], "c": ["2.5", "3.5", "4.5"]}


def test_what_is_unlike_the_usual_is_said(tmp_path: Path) -> None:
    assert read_table(write(tmp_path, ROWS)).notes == ()
    semicolons = read_table(write(tmp_path, "\ufeff" + ROWS.replace(",", ";").replace(".", ",")))
    said = "; ".join(semicolons.notes)
    assert "a byte order mark (utf-8)" in said
    assert "columns parted by semicolons, decimal commas" in said
    assert semicolons.names == ["a", "b", "c"]


@pytest.mark.parametrize("ending", ["\n", "\r\n", "\r"])
def test_line_endings_and_blank_lines(tmp_path: Path, ending: str) -> None:
    path = write(tmp_path, (ROWS.replace("2,y", "\n2,y") + "\n\n").replace("\n", ending))
    assert values(read_table(path))["a"] == ["1", "2", "3"]


def test_lines_of_blanks_are_no_rows(tmp_path: Path) -> None:
    assert read_table(write(tmp_path, "a,b\n1,2\n   \n3,4\n")).rows == 2


def test_no_newline_at_the_end(tmp_path: Path) -> None:
    assert values(read_table(write(tmp_path, "a,b\n1,2\n3,4")))["b"] == ["2", "4"]


def test_quotes_hold_delimiters_quotes_and_newlines(tmp_path: Path) -> None:
    path = write(tmp_path, 'a,b\n"x, y","one\ntwo"\n"say ""hi""",z\n')
    assert values(read_table(path)) == {"a": ["x, y", 'say "hi"'], "b": ["one\ntwo", "z"]}


def test_other_ways_to_quote(tmp_path: Path) -> None:
    assert values(read_table(write(tmp_path, "'a','b'\n'x, y','1'\n'z','2'\n")))["a"] == ["x, y", "z"]
    escaped = write(tmp_path, 'a,b\n"say \\"hi\\", he",1\nz,2\n')
    assert values(read_table(escaped))["a"] == ['say "hi", he', "z"]
    spaced = write(tmp_path, 'a, b\n1, "x, y"\n2, "z"\n')
    assert values(read_table(spaced)) == {"a": ["1", "2"], "b": ["x, y", "z"]}


def test_a_header_with_quoted_newlines(tmp_path: Path) -> None:
    table = read_table(write(tmp_path, '\n"first\nname",b\nx,1\n'))
    assert table.names == ["first\nname", "b"]
    assert values(table)["b"] == ["1"]


def test_the_line_of_excel_that_names_the_delimiter(tmp_path: Path) -> None:
    assert values(read_table(write(tmp_path, "sep=;\na;b\n1,5;2\n"))) == {"a": ["1,5"], "b": ["2"]}


@pytest.mark.parametrize("content", ["a,b,\n1,2,\n3,4,\n", "a,b\n1,2,\n3,4,\n"])
def test_a_delimiter_at_the_end_of_lines(tmp_path: Path, content: str) -> None:
    assert values(read_table(write(tmp_path, content))) == {"a": ["1", "3"], "b": ["2", "4"]}


def test_a_delimiter_at_the_end_of_some_lines(tmp_path: Path) -> None:
    assert values(read_table(write(tmp_path, "a,b\n1,2\n3,4,\n"))) == {"a": ["1", "3"], "b": ["2", "4"]}


def test_a_value_behind_the_last_delimiter_is_not_lost(tmp_path: Path) -> None:
    content = "a,b,\n" + "1,2,\n" * 600 + "3,4,5\n"
    assert "FILE: line 602 has 3 fields, the header 2" in refused(write(tmp_path, content))


def test_short_rows_are_filled_up_and_said(tmp_path: Path) -> None:
    table = read_table(write(tmp_path, "a,b,c\n1,2,3\n4,5\n"))
    assert values(table)["c"] == ["3", ""]
    assert "fewer fields than the header" in table.notes[0]


def test_duplicate_and_empty_names(tmp_path: Path) -> None:
    table = read_table(write(tmp_path, ",a, a ,a_2,a\n1,2,3,4,5\n"))
    assert table.names == ["column_1", "a", "a_3", "a_2", "a_4"]
    assert len(table.notes) == 3


def test_one_column(tmp_path: Path) -> None:
    table = read_table(write(tmp_path, "name\nx, y\n\nz\n"))
    assert values(table) == {"name": ["x, y", "z"]}
    assert "one column" in table.notes[0]


def test_a_title_above_the_header(tmp_path: Path) -> None:
    message = refused(write(tmp_path, "Report of May\na,b,c\n1,2,3\n"))
    assert message.startswith("FILE: line 1 has 1 field, those below it 3, parted by ','")
    assert read_table(write(tmp_path, "price\n1,5\n2,5\n")).rows == 2


def test_a_first_line_of_values_is_noticed(tmp_path: Path) -> None:
    assert "expected a header" in read_table(write(tmp_path, "1.5,2,x\n2.5,3,y\n")).notes[0]


@pytest.mark.parametrize(
    ("encoding", "text"),
    [
        ("utf-8", "Straße, Zürich"),
        ("utf-16", "Straße, Zürich"),
        ("utf-16-le", "Strasse in Zürich am See, gleich links"),
        ("cp1252", "Straße in Zürich – „schön“"),
        ("cp1251", "Привет, это обычный русский текст о погоде и природе"),
        ("shift_jis", "これは日本語の文章です。天気がいいですね。"),
    ],
)
def test_encodings(tmp_path: Path, encoding: str, text: str) -> None:
    content = "id;text\n" + "".join(f"{i};{text}\n" for i in range(30))
    table = read_table(write(tmp_path, content.encode(encoding)))
    assert values(table)["text"] == [text] * 30
    assert (table.notes != ()) or encoding == "utf-8"


def test_an_encoding_is_found_where_it_first_shows(tmp_path: Path) -> None:
    rows = 200_000
    content = b"id,text\n" + b"".join(b"%d,plain\n" % i for i in range(rows)) + "x,Zürich\n".encode("cp1252")
    table = read_table(write(tmp_path, content))
    assert table.data.column("text")[rows].as_py() == "Zürich"
    assert table.notes == (f"{tmp_path / 'table.csv'}: not UTF-8, read as cp1252",)


def test_a_broken_byte_among_utf8_is_said_with_its_line(tmp_path: Path) -> None:
    table = read_table(write(tmp_path, "a,b\n1,Zürich\n".encode() + b"2,Z\xfcrich\n"))
    assert values(table)["b"] == ["Zürich", "Z\N{REPLACEMENT CHARACTER}rich"]
    assert "line 3" in table.notes[0]


def test_gzip_by_content(tmp_path: Path) -> None:
    assert read_table(write(tmp_path, gzip.compress(ROWS.encode()), "table.csv.gz")).rows == 3
    assert read_table(write(tmp_path, gzip.compress(ROWS.encode()), "table.csv")).rows == 3


def test_damaged_gzip(tmp_path: Path) -> None:
    packed = gzip.compress(ROWS.encode() * 1000)
    assert "FILE is damaged or cut short" in refused(write(tmp_path, packed[:-20], "table.csv.gz"))
    broken = packed[:40] + bytes([packed[40] ^ 255]) + packed[41:]
    assert "FILE is damaged or cut short" in refused(write(tmp_path, broken, "table.csv.gz"))


@pytest.mark.parametrize("rows", [3, 300_000])
def test_a_row_with_more_fields_is_named_by_its_line(tmp_path: Path, rows: int) -> None:
    content = "a,b\n" + '"x\ny",2\n' * rows + "1,2,3\n"
    assert f"FILE: line {2 * rows + 2} has 3 fields, the header 2" in refused(write(tmp_path, content))


def test_mixed_delimiters(tmp_path: Path) -> None:
    message = refused(write(tmp_path, "a,b,c\n1,2,3\n4;5;6\n"))
    assert message == "FILE: line 3 parts its fields by ';', the header by ',': expected one delimiter, got 4;5;6"


@pytest.mark.parametrize("content", ['a,b\n1,2\n"3,4\n5,6\n', 'a,b\n1,2\n3,"4\n5,6\n'])
def test_a_quote_that_does_not_end(tmp_path: Path, content: str) -> None:
    assert "FILE: line 3 cannot be read" in refused(write(tmp_path, content))


@pytest.mark.parametrize("content", [b"", b"\n \n", b"\xef\xbb\xbf"])
def test_empty_files(tmp_path: Path, content: bytes) -> None:
    assert "FILE is empty: expected a table" in refused(write(tmp_path, content))


def test_a_header_alone(tmp_path: Path) -> None:
    path = write(tmp_path, "a,b\n")
    assert "a header and no rows" in refused(path)
    batches = list(open_batches(path))
    assert [(batch.num_rows, batch.schema.names) for batch in batches] == [(0, ["a", "b"])]


@pytest.mark.parametrize(
    ("content", "what"),
    [
        (b"\x89PNG\r\n\x1a\n\0\0", "a PNG image"),
        (b"PK\x03\x04\x14\0", "a ZIP archive or an Excel workbook"),
        (b"<!DOCTYPE html>\n<p>no such page</p>", "HTML or XML"),
        (bytes(range(256)), "holds bytes that are no text"),
    ],
)
def test_files_that_are_no_tables(tmp_path: Path, content: bytes, what: str) -> None:
    message = refused(write(tmp_path, content))
    assert what in message
    assert "expected a table" in message


def test_a_missing_file_and_a_folder(tmp_path: Path) -> None:
    assert "No such file" in refused(tmp_path / "absent.csv")
    assert "is a folder" in refused(tmp_path)
    os.mkfifo(tmp_path / "pipe")
    assert "is no regular file" in refused(tmp_path / "pipe")


def test_batches_are_the_table(tmp_path: Path) -> None:
    content = "a;b\n" + "".join(f'{i};"x\n{i}"\n' for i in range(5_000)) + "1\n" + "7;8\n" * 10
    path = write(tmp_path, content)
    batches = list(open_batches(path, 700))
    assert max(batch.num_rows for batch in batches) <= 700
    joined = [value for batch in batches for value in batch.column(0).to_pylist()]
    assert joined == values(read_table(path))["a"]
    assert len(joined) == 5_011


def test_rows_longer_than_a_block(tmp_path: Path) -> None:
    table = read_table(write(tmp_path, f"a,b\n1,{'x' * 100_000}\n2,y\n" * 1))
    assert table.rows == 2
    wide = ",".join(f"c{i}" for i in range(30_000))
    assert len(read_table(write(tmp_path, f"{wide}\n{','.join(['1'] * 30_000)}\n")).names) == 30_000
