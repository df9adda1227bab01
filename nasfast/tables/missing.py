"""Texts that stand for a missing value."""

from __future__ import annotations

from collections.abc import Collection
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

MISSING = frozenset(
    {
        *("", "na", "n/a", "n.a.", "nan", "-nan", "null", "(null)", "none", "?", "-", "--", "."),
        *("#n/a", "#na", "#null!", "<na>", "nat", "\\n"),
    }
)
"""In small letters, without blanks around them."""

_LONGEST = max(map(len, MISSING))


def trim(texts: Any) -> Any:
    """Texts without blanks around them."""
    return pc.utf8_trim_whitespace(texts)


def is_marker(texts: Any, kept: Collection[str] = ()) -> Any:
    """Which trimmed texts stand for a missing value; ``kept`` are markers that are values here. Null of null."""
    markers = pa.array(sorted(MISSING - set(kept)), pa.string())
    begun = pc.ascii_lower(pc.utf8_slice_codeunits(texts, 0, _LONGEST + 1))
    return pc.is_in(begun, markers, skip_nulls=True)


def without_missing(texts: Any, kept: Collection[str] = ()) -> Any:
    """Trimmed texts, null for missing ones."""
    trimmed = trim(texts)
    return pc.if_else(is_marker(trimmed, kept), pa.scalar(None, pa.string()), trimmed)
