"""Names of what is in a column, from its prepared form."""

from __future__ import annotations

import numpy as np

from nasfast.automl.prepare import FIRST_LEVEL, MISSING, UNSEEN, Preparation
from nasfast.automl.sources import Source
from nasfast.utils.numbers import number_text

_CODES = {MISSING: "missing", UNSEEN: "rare or unseen"}


class Labels:
    """Names of levels, numbers and dates."""

    def __init__(self, preparation: Preparation) -> None:
        self._levels = [source.levels for source in preparation.codes]
        self._parts = [source.part for source in preparation.numbers]

    def level(self, source: Source, code: int) -> str:
        """Of a code of a category."""
        return _CODES[code] if code < FIRST_LEVEL else self._levels[source.codes[0]][code - FIRST_LEVEL]

    def has_days(self, source: Source) -> bool:
        """Whether its first number counts days since 1970."""
        return source.kind == "date" and self._parts[source.numbers[0]] == "days"

    def number(self, source: Source, value: float) -> str:
        """Of the first number of a column: as a date where it counts days."""
        return str(np.datetime64(int(value), "D")) if self.has_days(source) else number_text(float(f"{value:.6g}"))

    def range(self, source: Source, low: float, high: float) -> str:
        """From one value to another."""
        part = self._parts[source.numbers[0]] if source.kind == "date" else ""
        prefix = f"{part} " if part not in ("", "days") else ""
        first, last = self.number(source, low), self.number(source, high)
        return prefix + (first if first == last else f"{first} to {last}")
