"""Names of columns: each its own, none empty."""

from __future__ import annotations

import re
from collections.abc import Sequence

from nasfast.tables.data import say
from nasfast.utils.shown import shown

INDEX = re.compile(r"__index_level_\d+__")
"""How pandas names the labels of rows where it writes them as a column: they are no column of the table."""


def unique_names(given: Sequence[object], where: str, notes: list[str]) -> list[str]:
    """The names without blanks around them; a second one of a name gets a suffix, an empty one its place."""
    stripped = [str(name).strip() for name in given]
    taken = set(stripped)
    seen: set[str] = set()
    names = []
    for place, name in enumerate(stripped, 1):
        chosen = name or _free(f"column_{place}", taken)
        if not name:
            say(notes, f"{where}: column {place} has no name; it is called {chosen}")
        elif name in seen:
            chosen = _numbered(name, taken)
            say(notes, f"{where}: a second column is named {shown(name)}; it is called {shown(chosen)}")
        seen.add(chosen)
        taken.add(chosen)
        names.append(chosen)
    return names


def _free(name: str, taken: set[str]) -> str:
    return _numbered(name, taken) if name in taken else name


def _numbered(name: str, taken: set[str]) -> str:
    number = 2
    while f"{name}_{number}" in taken:
        number += 1
    return f"{name}_{number}"
