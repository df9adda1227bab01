"""The log of a run: one JSON object a line, which a kill leaves whole."""

from __future__ import annotations

import contextlib
import io
import json
import math
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from nasfast.errors import NasfastError, RunError
from nasfast.runs.checkpoint import CheckpointError
from nasfast.utils.files import write_error
from nasfast.utils.texts import parse_json

_BLOCK = 4096  # bytes


def _finite(value: Any) -> Any:
    """JSON has no NaN or infinity; both become null."""
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, dict):
        return {key: _finite(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_finite(item) for item in value]
    return value


def _end_of_rows(file: io.FileIO) -> int:
    """Where the last whole row of an open log ends."""
    position = file.seek(0, io.SEEK_END)
    while position:
        start = max(0, position - _BLOCK)
        file.seek(start)
        end = file.read(position - start).rfind(b"\n")
        if end >= 0:
            return start + end + 1
        position = start
    return 0


class MetricsLog:
    """Append-only JSON lines. Rows are on disk when ``append`` returns, or they are not in the file at all."""

    def __init__(self, path: Path) -> None:
        self.path = path

    @property
    def position(self) -> int:
        """Length of the log in bytes: what a checkpoint stores to be able to cut later rows off."""
        return self.path.stat().st_size if self.path.exists() else 0

    def append(self, *rows: dict[str, Any]) -> None:
        """Add rows, all or none. Floats that are not finite become null.

        Raises:
            RunError: They could not be written; the log is as it was.
        """
        line = "".join(json.dumps(_finite(row)) + "\n" for row in rows).encode()
        try:
            with open(self.path, "a+b", buffering=0) as file:
                start = _end_of_rows(file)
                file.truncate(start)  # a kill in the middle of a write left a part of a row
                try:
                    written = 0
                    while written < len(line):
                        written += file.write(line[written:])
                    os.fsync(file.fileno())
                except OSError:
                    file.truncate(start)
                    raise
        except OSError as error:
            raise write_error(self.path, error) from error

    def truncate(self, position: int) -> None:
        """Cut the log back to ``position`` bytes, a value that :attr:`position` had earlier."""
        if position > self.position:
            raise CheckpointError(
                f"{self.path} has {self.position} bytes, shorter than its checkpoint says ({position})"
            )
        if self.path.exists():
            with open(self.path, "r+b") as file:
                file.truncate(position)
                os.fsync(file.fileno())

    def rows(self) -> Iterator[dict[str, Any]]:
        """The rows in order. A last line without its end (a write that was cut) is left out.

        Raises:
            RunError: A row is damaged.
        """
        return (row for _, row in self.lines())

    def lines(self) -> Iterator[tuple[bytes, dict[str, Any]]]:
        """The same rows, each with the line that it stands in."""
        if not self.path.exists():
            return
        with open(self.path, "rb") as file:
            for number, line in enumerate(file, 1):
                if line.endswith(b"\n"):
                    yield line, self._row(number, line)

    def _row(self, number: int, line: bytes) -> dict[str, Any]:
        where = f"{self.path}, line {number}"
        try:
            row = parse_json(line.decode(), where, "a row of the log", RunError)
        except UnicodeDecodeError:
            raise RunError(f"{where} is not text: expected a row of the log") from None
        if not isinstance(row, dict):
            raise RunError(f"{where} must be a row of the log, got {type(row).__name__}")
        return row

    @contextlib.contextmanager
    def expected_rows(self) -> Iterator[None]:
        """Make an error of what misses something in a row of the log.

        Raises:
            RunError: A row lacks a value, or has one of another type.
        """
        try:
            yield
        except (KeyError, TypeError, ValueError, AttributeError, ArithmeticError) as error:
            if isinstance(error, NasfastError):
                raise
            what = f"it has no {error}" if isinstance(error, KeyError) else str(error)
            raise RunError(f"{self.path} is damaged: a row is not as nasfast writes it ({what})") from error
