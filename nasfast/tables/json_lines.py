"""JSON lines, or one JSON array of objects, as batches of text."""

from __future__ import annotations

import io
import json
from collections.abc import Iterator
from itertools import islice
from pathlib import Path
from typing import Any

import pyarrow as pa

from nasfast.errors import DataError
from nasfast.tables.data import say
from nasfast.tables.encoding import read_utf8
from nasfast.tables.names import unique_names
from nasfast.tables.stream import ChunkStream
from nasfast.utils.shown import shown

_EXPECTED = "a JSON object with a row on every line"
_ROWS = 65536


def read_json_lines(path: Path, notes: list[str]) -> Iterator[Any]:
    """The batches of a file. A batch has the columns that rows up to its end have named.

    Raises:
        DataError: It is no such file.
    """
    text = io.TextIOWrapper(io.BufferedReader(ChunkStream(read_utf8(path, notes))), encoding="utf-8")
    rows = _rows(path, text)
    keys: dict[str, None] = {}
    while part := list(islice(rows, _ROWS)):
        for row in part:
            keys.update(dict.fromkeys(row))
        if not keys:
            raise DataError(f"{shown(path)} has objects without names: expected {_EXPECTED}")
        names = unique_names([_whole(key) for key in keys], shown(path), notes)
        columns = [
            [_text(row.get(key), name, path, notes) for row in part] for key, name in zip(keys, names, strict=True)
        ]
        yield pa.RecordBatch.from_arrays([pa.array(column, pa.string()) for column in columns], names)


def _rows(path: Path, text: io.TextIOWrapper) -> Iterator[dict[str, Any]]:
    begun = False
    for number, line in enumerate(text, 1):
        if not line.strip():
            continue
        if not begun and line.lstrip().startswith("["):
            yield from _array(path, line + text.read())
            return
        begun = True
        where = f"{shown(path)}: line {number}"
        yield _object(_load(line, where), where)


def _array(path: Path, text: str) -> Iterator[dict[str, Any]]:
    rows = _load(text, shown(path))
    for number, row in enumerate(rows, 1):
        yield _object(row, f"{shown(path)}: row {number}")


def _load(text: str, where: str) -> Any:
    try:
        return json.loads(text, parse_int=str, parse_float=str, parse_constant=str)
    except (ValueError, RecursionError) as error:
        raise DataError(f"{where} is not valid JSON ({error}): expected {_EXPECTED}") from error


def _object(value: Any, where: str) -> dict[str, Any]:
    if isinstance(value, dict):
        return value
    raise DataError(f"{where} is no JSON object: expected {_EXPECTED}")


def _text(value: Any, name: str, path: Path, notes: list[str]) -> str | None:
    if value is None:
        return None
    if isinstance(value, str):
        return _whole(value)
    if isinstance(value, bool):
        return "true" if value else "false"
    say(notes, f"{shown(path)}: column {shown(name)} holds nested values, which are read as text")
    return _whole(json.dumps(value, ensure_ascii=False))


def _whole(text: str) -> str:
    """Half of a character that JSON writes in two parts is no text."""
    return text.encode("utf-8", "replace").decode()
