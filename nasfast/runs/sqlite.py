"""What SQLite says when a file cannot be used, in one line."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from nasfast.errors import RunError


@contextmanager
def sqlite_errors(path: Path, wait: float) -> Iterator[None]:
    """Raise RunError, which names the file, in place of what SQLite raises.

    Args:
        wait: Seconds that are waited for a lock.
    """
    try:
        yield
    except sqlite3.DatabaseError as error:
        text = str(error)
        if "locked" in text:
            text = f"another process has held a lock on it for {wait:g} seconds"
        elif "full" in text:
            text = "no space is left on its disk"
        elif "I/O" in text:
            text = "its disk cannot be written, or is full"
        elif "malformed" in text:
            raise RunError(f"{path} is damaged: {text}; restore it from a copy") from error
        raise RunError(f"{path} cannot be used: {text}; the run can be resumed from here") from error
