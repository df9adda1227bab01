"""A table in memory, with what was found out about the files that it came from."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import pyarrow as pa


@dataclass(frozen=True)
class FilePart:
    """A file of a table: its name, and how many rows of the table are its own, in the order of the files."""

    name: str
    rows: int


@dataclass(frozen=True)
class TableData:
    """A table in memory.

    Attributes:
        data: The columns. Of text files all are text; other files and objects keep their types.
        parts: The files, in the order of their rows; one without a name for a table that was in memory.
        notes: What was found out about the files, a line each, for people.
    """

    data: pa.Table
    parts: tuple[FilePart, ...]
    notes: tuple[str, ...] = ()

    @property
    def names(self) -> list[str]:
        return list(self.data.column_names)

    @property
    def rows(self) -> int:
        return int(self.data.num_rows)


def arrow_of(table: Any) -> Any:
    """The pyarrow table or batch of what may be one or a :class:`TableData`."""
    return table.data if isinstance(table, TableData) else table


def say(notes: list[str], text: str) -> None:
    """Add a note that is not yet there."""
    if text not in notes:
        notes.append(text)
