"""What somebody may have meant by an unknown name."""

from __future__ import annotations

import difflib
from collections.abc import Iterable
from typing import Any


def did_you_mean(name: Any, known: Iterable[str], quoted: bool = False) -> str:
    """``; did you mean NAME?`` for the name that is closest, nothing where none is close or ``name`` is no text."""
    close = difflib.get_close_matches(name, list(known), 1) if isinstance(name, str) else []
    return f"; did you mean {repr(close[0]) if quoted else close[0]}?" if close else ""


def must_be_one_of(name: Any, known: Iterable[str]) -> str:
    """``must be one of A, B, got NAME``, with a suggestion."""
    names = list(known)
    return f"must be one of {', '.join(names)}, got {name!r}{did_you_mean(name, names)}"
