"""Texts and JSON from files: any encoding that a byte order mark tells, and one line for all that is neither."""

import codecs
import json

import pytest

from nasfast.errors import ConfigError, RunError
from nasfast.utils.texts import parse_json, read_json, read_text

CONTENT = {"name": "Müller", "numbers": [1, 2.5]}


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "utf-16-le", "utf-16-be"])
def test_json_is_read_whatever_mark_it_begins_with(encoding, tmp_path):
    mark = {"utf-16-le": codecs.BOM_UTF16_LE, "utf-16-be": codecs.BOM_UTF16_BE}.get(encoding, b"")
    (tmp_path / "x.json").write_bytes(mark + json.dumps(CONTENT, ensure_ascii=False).encode(encoding))
    assert read_json(tmp_path / "x.json", "numbers", ConfigError) == CONTENT
    assert not read_text(tmp_path / "x.json", "numbers", ConfigError).startswith("\ufeff")


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "x.json is empty: expected numbers"),
        (b" \n\t", "x.json is empty: expected numbers"),
        (codecs.BOM_UTF8, "x.json is empty: expected numbers"),
        (codecs.BOM_UTF16_LE, "x.json is empty: expected numbers"),
        (b"\x80\x81", "x.json is not a text file: expected numbers"),
        (codecs.BOM_UTF16_LE + b"{", "x.json is not a text file: expected numbers"),
        (b"{", "x.json is not valid JSON (Expecting property name"),
        (b"[" * 100_000 + b"]" * 100_000, "x.json is nested too deep: expected numbers"),
        (b'{"a":' * 100_000, "x.json is nested too deep: expected numbers"),
        (b"9" * 10_000, "x.json is not valid JSON (Exceeds the limit"),
    ],
)
def test_what_is_no_json_is_one_line(content, message, tmp_path):
    (tmp_path / "x.json").write_bytes(content)
    with pytest.raises(RunError) as caught:
        read_json(tmp_path / "x.json", "numbers", RunError)
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_file_that_cannot_be_read_is_named(tmp_path):
    for path, why in ((tmp_path / "gone", "No such file"), (tmp_path, "Is a directory")):
        with pytest.raises(RunError, match=f"cannot read {path}: {why}"):
            read_text(path, "numbers", RunError)


def test_an_error_of_what_makes_objects_stays():
    def refuse(pairs):
        raise RunError("twice")

    with pytest.raises(RunError, match=r"^twice$"):
        parse_json("{}", "x", "numbers", ConfigError, refuse)
