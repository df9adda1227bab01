"""The log of a run: one JSON object a line, which a kill leaves whole."""

from __future__ import annotations

import contextlib
import io
import json
import math
import os
import re
import zlib
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

from nasfast.errors import NasfastError, RunError
from nasfast.runs.checkpoint import CheckpointError
from nasfast.runs.mark import End, Mark
from nasfast.utils.files import atomic_write, write_error

_BLOCK = 4096  # bytes
_RESTORE = "restore it from a copy"


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


def _tail(crc: int) -> bytes:
    """What a row ends with."""
    return b'"crc": "%08x"}\n' % crc


_TAIL = len(_tail(0))
_TAIL_FORM = re.compile(rb'"crc": "([0-9a-f]{8})"}\n')


def _head(row: dict[str, Any]) -> bytes:
    """A row but for its tail."""
    text = json.dumps(_finite(row))[:-1]
    return f"{text}, ".encode() if row else text.encode()


class MetricsLog:
    """Append-only JSON lines. Rows are on disk when ``append`` returns, or they are not in the file at all.

    The key "crc" at the end of each is a CRC-32 of the rows up to it, so that a row that is changed, missing, doubled
    or in another place is noticed; a :class:`nasfast.runs.mark.Mark` tells of rows that are missing at the end.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._mark = Mark(path)

    @property
    def position(self) -> int:
        """Length of the rows in bytes: what a checkpoint stores to be able to cut later rows off."""
        if not self.path.exists():
            return 0
        try:
            with open(self.path, "rb", buffering=0) as file:
                return _end_of_rows(file)
        except OSError as error:
            raise RunError(f"cannot read {self.path}: {error.strerror}") from error

    def append(self, *rows: dict[str, Any]) -> None:
        """Add rows, all or none. Floats that are not finite become null.

        Raises:
            RunError: They could not be written, and the log is as it was; or its end is damaged.
        """
        try:
            with open(self.path, "a+b", buffering=0) as file:
                start = self._end(file)
                file.truncate(start.position)  # a kill in the middle of a write left a part of a row
                try:
                    self._write(file, start, rows)
                except OSError:
                    file.truncate(start.position)
                    raise
        except OSError as error:
            raise write_error(self.path, error) from error

    def _write(self, file: io.FileIO, start: End, rows: Iterable[dict[str, Any]]) -> None:
        lines: list[bytes] = []
        crc = start.crc
        for head in map(_head, rows):
            crc = zlib.crc32(head, crc)
            lines += (head, _tail(crc))
        content, written = b"".join(lines), 0
        while written < len(content):
            written += file.write(content[written:])
        os.fsync(file.fileno())
        self._mark.write(End(start.position + len(content), crc))

    def _end(self, file: io.FileIO) -> End:
        """Where the rows of an open log end, by its last row alone."""
        mark, position, crc = self._mark.read(), _end_of_rows(file), 0
        if position:
            file.seek(max(0, position - _TAIL))
            tail = file.read(_TAIL)
            found = _TAIL_FORM.fullmatch(tail)
            if found is None:
                raise RunError(f"{self.path} is damaged: its last row has no checksum; {_RESTORE}")
            crc = int(found[1], 16)
        if mark is None and not position:
            mark = End()
            self._mark.write(mark, sync=True)  # at once: with rows and no mark, rows may be missing
        if mark is None or position < mark.position:
            raise self._shortened(position, mark)
        return End(position, crc)

    def _shortened(self, position: int, mark: End | None) -> RunError:
        if mark is None:
            return RunError(f"{self._mark.path} is missing or empty, which says how long {self.path} is; {_RESTORE}")
        return RunError(
            f"{self.path} is damaged: it has {position} bytes of the {mark.position} that were written; {_RESTORE}"
        )

    def truncate(self, position: int) -> None:
        """Cut the log back to ``position`` bytes, a value that :attr:`position` had earlier.

        Raises:
            CheckpointError: It has not so many.
            RunError: A row is damaged, or rows are missing.
        """
        end = End()
        for _, found in self._whole():
            if found.position <= position:
                end = found
        if end.position != position:
            length = self.position
            how = "shorter than" if length < position else "and its rows do not end where"
            raise CheckpointError(f"{self.path} has {length} bytes, {how} its checkpoint says ({position})")
        if not self.path.exists():
            return
        self._mark.lower(end)
        try:
            with open(self.path, "r+b") as file:
                file.truncate(position)
                os.fsync(file.fileno())
        except OSError as error:
            raise write_error(self.path, error) from error

    def rows(self) -> Iterator[dict[str, Any]]:
        """The rows in order. A last line without its end (a write that was cut) is left out.

        Raises:
            RunError: A row is damaged, or rows are missing.
        """
        for number, (head, _) in enumerate(self._whole(), 1):
            yield self._row(number, head)

    def check(self) -> None:
        """Read it through.

        Raises:
            RunError: A row is damaged, or rows are missing.
        """
        for _ in self._whole():
            pass

    def drop(self, unwanted: Callable[[dict[str, Any]], bool]) -> None:
        """Remove rows; others, before and after them, stay.

        Raises:
            RunError: A row is damaged, or the log cannot be written.
        """
        kept, same, crc, dropped = [], End(), 0, False
        for number, (head, end) in enumerate(self._whole(), 1):
            if unwanted(self._row(number, head)):
                dropped = True
                continue
            crc = zlib.crc32(head, crc)
            kept += [head, _tail(crc)]
            if not dropped:
                same = end
        if not dropped:
            return
        content = b"".join(kept)
        self._mark.lower(same)  # what it says is so of the old log and of the new one
        atomic_write(self.path, content)
        self._mark.lower(End(len(content), crc))

    def _whole(self) -> Iterator[tuple[bytes, End]]:
        """The rows that were written to their end, checked, each but for its tail; and where each ends.

        The last one is given when it is known that none is missing.
        """
        mark = self._mark.read()  # before the log, which a search may be adding to
        end, last = End(), None
        for number, line in enumerate(self._lines(), 1):
            head = line[:-_TAIL]
            crc = zlib.crc32(head, end.crc)
            if line[-_TAIL:] != _tail(crc):
                raise RunError(f"{self.path}, line {number} is damaged: its checksum does not fit; {_RESTORE}")
            end = End(end.position + len(line), crc)
            if mark is not None and end.position == mark.position and end != mark:
                raise RunError(f"{self.path}, line {number} is not the row that was written; {_RESTORE}")
            if last is not None:
                yield last
            last = head, end
        if (mark is None and last is not None) or (mark is not None and end.position < mark.position):
            raise self._shortened(end.position, mark)
        if last is not None:
            yield last

    def _lines(self) -> Iterator[bytes]:
        if not self.path.exists():
            return
        try:
            with open(self.path, "rb") as file:
                yield from (line for line in file if line.endswith(b"\n"))
        except OSError as error:
            raise RunError(f"cannot read {self.path}: {error.strerror}") from error

    def _row(self, number: int, head: bytes) -> dict[str, Any]:
        try:
            row: dict[str, Any] = json.loads(head.removesuffix(b", ") + b"}")
        except (ValueError, RecursionError) as error:  # it has its checksum all the same: nasfast did not write it
            raise RunError(f"{self.path}, line {number} is no row of the log: {error}") from error
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
