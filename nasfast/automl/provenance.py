"""Where a model comes from: the data and their checksum, how they were split, versions, the date."""

from __future__ import annotations

import platform
from collections.abc import Mapping
from datetime import UTC, datetime
from hashlib import blake2b
from importlib import metadata
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from nasfast.automl.problem import Problem
from nasfast.tables import TableData
from nasfast.utils.version import nasfast_version

_DIGEST = 16
_NO_TEXT = pa.array([], pa.large_string())
_PACKAGES = ("torch", "scikit-learn", "numpy", "pyarrow")


def provenance(source: TableData, digest: str, problem: Problem, roles: Mapping[str, str | None]) -> dict[str, Any]:
    """As JSON.

    Args:
        source: The table as it was given, rows without a target among them.
        digest: Its checksum, see :func:`table_digest`.
        roles: Columns of groups, times and weights.
    """
    return {
        "data": {
            "files": [Path(part.name).name for part in source.parts if part.name],
            "rows": source.rows,
            "columns": len(source.names),
            "blake2b": digest,
        },
        "split": split_text(problem, roles),
        "roles": {role: name for role, name in roles.items() if name is not None},
        "class_rows": class_rows(problem),
        "versions": {"nasfast": nasfast_version(), "python": platform.python_version()}
        | {name: metadata.version(name) for name in _PACKAGES},
        "date": datetime.now(UTC).isoformat(timespec="seconds"),
    }


def table_digest(table: pa.Table) -> str:
    """A checksum of names, types and values, however the table is cut into parts."""
    digest = blake2b(digest_size=_DIGEST)
    for name, column in zip(table.column_names, table.columns, strict=True):
        digest.update(f"{name}\0{column.type}\0{len(column)}\0".encode(errors="surrogatepass"))
        digest.update(np.packbits(np.asarray(pc.is_null(column).combine_chunks())).tobytes())
        for part in _values(column):
            digest.update(np.ascontiguousarray(part).tobytes())
    return digest.hexdigest()


def _values(column: pa.ChunkedArray) -> list[Any]:
    """A column's values as arrays, with a fixed one in the place of what is missing."""
    if pa.types.is_dictionary(column.type):
        column = column.cast(column.type.value_type)
    if pa.types.is_string(column.type) or pa.types.is_large_string(column.type):
        return _texts(pa.concat_arrays(pc.fill_null(column, "").cast(pa.large_string()).chunks or [_NO_TEXT]))
    if pa.types.is_temporal(column.type):
        column = column.cast(pa.int32() if column.type.bit_width == 32 else pa.int64())
    if pa.types.is_boolean(column.type):
        column = column.cast(pa.int8())
    if pa.types.is_integer(column.type) or pa.types.is_floating(column.type):
        return [np.asarray(pc.fill_null(column, 0))]
    return [np.frombuffer(repr(column.to_pylist()).encode(errors="surrogatepass"), np.uint8)]


def _texts(texts: pa.LargeStringArray) -> list[Any]:
    """Lengths, and the bytes of all one after the other."""
    _, offsets, content = texts.buffers()
    ends = np.frombuffer(offsets, np.int64)[texts.offset : texts.offset + len(texts) + 1] if len(texts) else np.zeros(1)
    ends = ends.astype(np.int64)
    whole = np.frombuffer(content, np.uint8) if content is not None else np.empty(0, np.uint8)
    return [np.diff(ends), whole[ends[0] : ends[-1]]]


def split_text(problem: Problem, roles: Mapping[str, str | None]) -> str:
    """How rows were parted into those to train on and those that judge, for people."""
    folds = len(problem.folds)
    if roles.get("time") is not None:
        how = f"folds by {roles['time']!r}, each judged by rows later than those it was trained on"
        return f"{folds} {how}" if folds > 1 else f"one part held out, later by {roles['time']!r} than the rest"
    whole = f", rows of one {roles['group']!r} together" if roles.get("group") is not None else ""
    kept = ", classes in equal shares" if problem.task.classes else ""
    held = len(problem.judged()) / len(problem.y)
    return (f"{folds} folds" if folds > 1 else f"{held:.0%} of the rows held out") + whole + kept


def class_rows(problem: Problem) -> list[int]:
    """Rows of each class; none for numbers."""
    if not problem.task.classes:
        return []
    return np.bincount(problem.y.astype(np.int64), minlength=problem.task.outputs).tolist()
