"""Texts that stand for a missing value."""

from __future__ import annotations

from collections.abc import Collection
from typing import Any

import numpy as np
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
_FIRST = np.zeros(256, dtype=bool)
_FIRST[[ord(case(text[0])) for text in MISSING if text for case in (str.lower, str.upper)]] = True
_SPACE, _DELETE = 32, 127  # bytes between them are signs of ASCII

Array = np.ndarray[Any, Any]
_Ends = tuple[Array, Array, Array]


def trim(texts: Any) -> Any:
    """An array of texts without blanks around them."""
    return _trimmed(texts, _ends(texts))[0]


def is_marker(texts: Any, kept: Collection[str] = ()) -> Array:
    """Which trimmed texts of an array stand for a missing value, bool [N]; null is none.

    Args:
        kept: Markers that are values here, in small letters.
    """
    return _marked(texts, _ends(texts), kept)


def without_missing(texts: Any, kept: Collection[str] = ()) -> Any:
    """Trimmed texts of an array, null for missing ones."""
    trimmed, ends = _trimmed(texts, _ends(texts))
    marker = _marked(trimmed, ends, kept)
    if not marker.any():
        return trimmed
    return pc.if_else(pa.array(marker), pa.scalar(None, pa.string()), trimmed)


def _trimmed(texts: Any, ends: _Ends) -> tuple[Any, _Ends]:
    """The texts without blanks around them, and their ends."""
    lengths, first, last = ends
    plain = (first > _SPACE) & (first < _DELETE) & (last > _SPACE) & (last < _DELETE)
    if np.all(plain | (lengths == 0)):
        return texts, ends
    trimmed = pc.utf8_trim_whitespace(texts)
    return trimmed, _ends(trimmed)


def _marked(texts: Any, ends: _Ends, kept: Collection[str]) -> Array:
    lengths, first, _ = ends
    found = (lengths <= _LONGEST) & ((lengths == 0) | _FIRST[first])
    places = np.flatnonzero(found)
    if places.size:
        markers = pa.array(sorted(MISSING - set(kept)), pa.string())
        likely = texts if places.size == len(texts) else texts.take(pa.array(places))
        inside = pc.is_in(pc.ascii_lower(likely), markers, skip_nulls=True)
        found[places] = inside.to_numpy(zero_copy_only=False).astype(bool)
    return found


def has_padding(texts: Any) -> bool:
    """Whether a text of an array begins with a zero and is longer, as 01 and 0.5 are."""
    lengths, first, _ = _ends(texts)
    return bool(np.any((lengths > 1) & (first == ord("0"))))


def _ends(texts: Any) -> _Ends:
    """Bytes of each text, its first and its last one (0 where it has none)."""
    _, offsets, data = texts.buffers()
    count = len(texts)
    first, last = np.zeros(count, np.uint8), np.zeros(count, np.uint8)
    if not count or offsets is None:
        return np.zeros(count, np.int32), first, last
    edges = np.frombuffer(offsets, np.int32)[texts.offset : texts.offset + count + 1]
    lengths = np.diff(edges)
    if data is None or not data.size:
        return lengths, first, last
    content = np.frombuffer(data, np.uint8)
    if lengths.all():
        return lengths, content[edges[:-1]], content[edges[1:] - 1]
    filled = np.flatnonzero(lengths)
    first[filled], last[filled] = content[edges[filled]], content[edges[filled + 1] - 1]
    return lengths, first, last
