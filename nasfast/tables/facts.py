"""The distinct values of a column and how many rows have each: what its kind is told from."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from nasfast.tables.canonical import flat, to_text
from nasfast.tables.missing import is_marker, trim

NONE = "none"


class _Counted:
    """Distinct values of a column, with the rows of each."""

    rows: int
    values: Any
    counts: np.ndarray[Any, Any]

    @property
    def present(self) -> int:
        return int(self.counts.sum())

    @property
    def missing(self) -> int:
        return self.rows - self.present

    @property
    def distinct(self) -> int:
        return len(self.values)


@dataclass(frozen=True)
class TextFacts(_Counted):
    """A column of text.

    Attributes:
        name: Of the column.
        rows: In all.
        values: Distinct texts without blanks around them, but missing ones.
        counts: Rows of each.
        markers: Texts that stand for a missing value, most frequent first; the empty one among them.
        kept: Markers that are values here.
    """

    name: str
    rows: int
    values: Any
    counts: np.ndarray[Any, Any]
    markers: tuple[str, ...]
    kept: tuple[str, ...]

    @property
    def has_none(self) -> bool:
        """Whether "none" is among the markers, which may be a value: no garage rather than no answer."""
        return NONE in map(str.lower, self.markers)


def text_facts(name: str, values: Any, kept: tuple[str, ...] = ()) -> TextFacts:
    """The facts of a column; ``kept`` are markers of a missing value, in small letters, that are values in it."""
    texts = trim(to_text(flat(values)))
    counted = pc.value_counts(texts.drop_null())
    levels, counts = counted.field(0), counted.field(1).to_numpy(zero_copy_only=False)
    marker = is_marker(levels, kept)
    found = dict(zip(levels.filter(pa.array(marker)).to_pylist(), counts[marker].tolist(), strict=True))
    others = levels.filter(pa.array(~marker))
    if "-" in found and len(others) == 1 and others[0].as_py() == "+":
        kept = (*kept, "-")
        marker &= ~pc.equal(levels, "-").to_numpy(zero_copy_only=False)
        del found["-"]
    markers = tuple(sorted(found, key=lambda text: (-found[text], text)))
    keep = ~marker
    return TextFacts(name, len(texts), levels.filter(pa.array(keep)), counts[keep], markers, kept)


@dataclass(frozen=True)
class NumberFacts(_Counted):
    """A column of numbers.

    Attributes:
        name: Of the column.
        rows: In all.
        values: Distinct finite numbers, ascending.
        counts: Rows of each.
        infinite: Rows with an infinite value.
    """

    name: str
    rows: int
    values: np.ndarray[Any, Any]
    counts: np.ndarray[Any, Any]
    infinite: int = 0

    @property
    def whole(self) -> bool:
        return bool(np.all(np.trunc(self.values) == self.values))


def number_facts(
    name: str, numbers: np.ndarray[Any, Any], counts: np.ndarray[Any, Any] | None, rows: int
) -> NumberFacts:
    """The facts of float64 values, NaN for missing; ``counts`` has the rows of each, or each is a row."""
    finite = np.isfinite(numbers)
    if counts is None:
        values, total = np.unique(numbers[finite], return_counts=True)
        return NumberFacts(name, rows, values, total, int(np.isinf(numbers).sum()))
    values, where = np.unique(numbers[finite], return_inverse=True)
    total = np.bincount(where, counts[finite], len(values)).astype(np.int64)
    return NumberFacts(name, rows, values, total, int(counts[np.isinf(numbers)].sum()))
