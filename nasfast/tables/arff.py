"""ARFF, the format of Weka and OpenML, as batches of text; what the header declares goes with the columns."""

from __future__ import annotations

import io
import re
from collections.abc import Iterator
from itertools import islice
from pathlib import Path
from typing import Any

import pyarrow as pa

from nasfast.errors import DataError
from nasfast.tables.encoding import read_utf8
from nasfast.tables.names import unique_names
from nasfast.tables.stream import ChunkStream
from nasfast.utils.shown import shown

_EXPECTED = "@relation, @attribute NAME TYPE for every column, @data, and a line for every row"
_ROWS = 65536
_QUOTED = r"'(?:[^'\\]|\\.)*'|\"(?:[^\"\\]|\\.)*\""
_ATTRIBUTE = re.compile(rf"@attribute\s+({_QUOTED}|[^\s{{]+)\s*(.+)", re.IGNORECASE)
_FIELD = re.compile(rf"\s*({_QUOTED}|[^,]*?)\s*(,|$)")
_SPARSE = re.compile(r"(\d+)\s+(.*)")
_DECLARED = {"numeric": "number", "real": "number", "integer": "number", "string": "text", "date": "date"}

_Lines = Iterator[tuple[int, str]]


def read_arff(path: Path, notes: list[str]) -> Iterator[Any]:
    """The batches of a file, at least one; the metadata of a field has what is declared of it.

    Raises:
        DataError: It is no such file.
    """
    text = io.TextIOWrapper(io.BufferedReader(ChunkStream(read_utf8(path, notes))), encoding="utf-8")
    lines = ((number, line.strip()) for number, line in enumerate(text, 1))
    lines = ((number, line) for number, line in lines if line and not line.startswith("%"))
    given, kinds = _attributes(path, lines)
    names = unique_names(given, shown(path), notes)
    fields = zip(names, (declared for declared, _ in kinds), strict=True)
    schema = pa.schema([pa.field(name, pa.string(), metadata={b"declared": kind}) for name, kind in fields])
    yield pa.RecordBatch.from_arrays([pa.array([], pa.string())] * len(names), schema=schema)
    rows = (_row(path, number, line, [zero for _, zero in kinds]) for number, line in lines)
    while part := list(islice(rows, _ROWS)):
        columns = [pa.array(column, pa.string()) for column in zip(*part, strict=True)]
        yield pa.RecordBatch.from_arrays(columns, schema=schema)


def _attributes(path: Path, lines: _Lines) -> tuple[list[str], list[tuple[str, str]]]:
    """Names of columns, and of each the kind that is declared and what 0 stands for in a sparse row."""
    names: list[str] = []
    kinds: list[tuple[str, str]] = []
    for number, line in lines:
        word = line.split(None, 1)[0].lower()
        if word == "@data":
            if not names:
                break
            return names, kinds
        found = _ATTRIBUTE.match(line)
        if word not in ("@relation", "@attribute") or (word == "@attribute" and found is None):
            raise DataError(f"{shown(path)}: line {number} is no line of an ARFF header: expected {_EXPECTED}")
        if word == "@attribute" and found is not None:
            names.append(_bare(found[1]))
            kinds.append(_kind(path, number, found[2].strip()))
    raise DataError(f"{shown(path)} has no {'columns' if not names else '@data'}: expected {_EXPECTED}")


def _kind(path: Path, number: int, text: str) -> tuple[str, str]:
    if text.startswith("{"):
        levels = _fields(text[1:].rstrip().removesuffix("}"))
        return "category", (levels or [""])[0] or ""
    kind = _DECLARED.get(text.split(None, 1)[0].lower())
    if kind is None:
        expected = "numeric, integer, real, string, date or {the, levels}"
        raise DataError(f"{shown(path)}: line {number} declares the type {shown(text)}: expected {expected}")
    return kind, "0"


def _row(path: Path, number: int, line: str, zeros: list[str]) -> list[str | None]:
    if line.startswith("{"):
        return _sparse(path, number, line, zeros)
    fields = _fields(line)
    if len(fields) != len(zeros):
        raise DataError(
            f"{shown(path)}: line {number} has {len(fields)} values: expected {len(zeros)}, one for each @attribute"
        )
    return fields


def _sparse(path: Path, number: int, line: str, zeros: list[str]) -> list[str | None]:
    row: list[str | None] = [*zeros]
    inside = line[1:].partition("}")[0].strip() if "'" not in line and '"' not in line else line[1:-1].strip()
    for part in re.findall(rf"(?:{_QUOTED}|[^,])+", inside):
        found = _SPARSE.fullmatch(part.strip())
        if found is None or int(found[1]) >= len(zeros):
            raise DataError(f"{shown(path)}: line {number} has {shown(part)}: expected INDEX VALUE of a sparse row")
        row[int(found[1])] = _value(found[2])
    return row


def _fields(line: str) -> list[str | None]:
    if "'" not in line and '"' not in line:
        return [_value(part.strip()) for part in line.split(",")]
    fields, place = [], 0
    while True:
        found = _FIELD.match(line, place)
        if found is None:  # text behind a quote
            return [_value(part.strip()) for part in line.split(",")]
        fields.append(_value(found[1]))
        place = found.end()
        if not found[2]:
            return fields


def _value(text: str) -> str | None:
    return None if text == "?" else _bare(text)


def _bare(text: str) -> str:
    if len(text) > 1 and text[0] == text[-1] and text[0] in "'\"":
        return re.sub(r"\\(.)", r"\1", text[1:-1])
    return text
