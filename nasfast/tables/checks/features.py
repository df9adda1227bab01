"""The features of a table as arrays that checks compare: numbers, and codes of categories."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from nasfast.tables.convert import convert_column
from nasfast.tables.schema import Schema

MOST_ROWS = 10_000
"""Rows that the checks which train something look at."""


@dataclass(frozen=True)
class Feature:
    """A column.

    Attributes:
        name: Of the column.
        values: float64 [N], NaN for missing; of a category or text, codes in the order in which its values first occur.
        is_code: Whether they are codes.
        is_text: Whether it is free text.
    """

    name: str
    values: np.ndarray[Any, Any]
    is_code: bool
    is_text: bool = False

    def take(self, rows: np.ndarray[Any, Any]) -> Feature:
        """The column at some rows."""
        return Feature(self.name, self.values[rows], self.is_code, self.is_text)

    @property
    def codes(self) -> np.ndarray[Any, Any]:
        """Of codes: as int64, 0 for missing."""
        return np.where(np.isnan(self.values), 0, self.values + 1).astype(np.int64)


def make_features(data: Any, schema: Schema) -> list[Feature]:
    """The columns of a table that are not ignored."""
    found = []
    for column in schema.used:
        values = convert_column(data, column)
        is_code = column.kind in ("category", "text")
        found.append(Feature(column.name, text_codes(values) if is_code else values, is_code, column.kind == "text"))
    return found


def text_codes(texts: Any) -> np.ndarray[Any, Any]:
    """Codes of texts in the order in which they first occur, float64, NaN for missing."""
    indices = texts.dictionary_encode().indices
    return np.array(indices.to_numpy(zero_copy_only=False), dtype=np.float64)


def some_rows(count: int, most: int = MOST_ROWS) -> np.ndarray[Any, Any]:
    """All rows, or so many of them, the same ones every time."""
    if count <= most:
        return np.arange(count)
    return np.sort(np.random.default_rng(0).choice(count, most, replace=False))


def row_hashes(columns: list[np.ndarray[Any, Any]], start: np.ndarray[Any, Any] | None = None) -> np.ndarray[Any, Any]:
    """A number for every row, uint64 [N], that is the same where all float64 values are, and those of ``start``."""
    mixed = np.zeros(len(columns[0]), dtype=np.uint64) if start is None else start
    for values in columns:
        plain = np.where(np.isnan(values), np.inf, values + 0.0)  # one bit pattern for missing, and for 0 and -0
        mixed = _scramble(mixed * np.uint64(0x9E3779B97F4A7C15) + plain.view(np.uint64))
    return mixed


def _scramble(bits: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    """The mixing of SplitMix64."""
    bits = (bits ^ (bits >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    bits = (bits ^ (bits >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return bits ^ (bits >> np.uint64(31))
