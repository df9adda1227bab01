"""From the columns of a table to the two arrays that every member of a model trains on."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from nasfast.automl.text import TextSource
from nasfast.errors import RunError
from nasfast.tables.schema import Schema

MISSING, UNSEEN, FIRST_LEVEL = 0, 1, 2
"""Codes of a category: no value, one that was rare or absent in training, and the first level."""

MAX_LEVELS = 252
"""Levels of a category that have a code of their own: with the two codes above they fit into a byte of boosting."""

_RARE = 2  # rows that a level needs, so that "unseen" is met in training
_DAY = 86400.0
LARGEST = 1e38
"""What is larger counts as this: differences of such numbers still are float32."""

_DATE_PARTS = ("days", "month", "weekday", "hour")

Columns = Mapping[str, Any]
"""Converted columns (`nasfast.tables.convert`): float64 [N] of numbers and dates, Arrow texts of the others."""


@dataclass(frozen=True)
class Prepared:
    """A table as arrays.

    Attributes:
        numbers: float32 [N, Fn], NaN where there is none.
        codes: int16 [N, Fc], see :data:`MISSING`.
    """

    numbers: NDArray[np.float32]
    codes: NDArray[np.int16]

    def __len__(self) -> int:
        return len(self.numbers)

    def take(self, rows: NDArray[np.int64]) -> Prepared:
        """Some of the rows."""
        return Prepared(self.numbers[rows], self.codes[rows])


@dataclass(frozen=True)
class NumberSource:
    """A number: a column, or a part of the date in it ("days" since 1970, "month", "weekday" or "hour")."""

    column: str
    part: str = ""


@dataclass(frozen=True)
class CodeSource:
    """A category: its levels have the codes from :data:`FIRST_LEVEL`, in this order."""

    column: str
    levels: tuple[str, ...]


@dataclass(frozen=True)
class Preparation:
    """How columns become arrays: the numbers, those of texts behind them, and codes; made from training rows."""

    numbers: tuple[NumberSource, ...]
    codes: tuple[CodeSource, ...]
    texts: tuple[TextSource, ...] = ()

    @classmethod
    def of(cls, columns: Columns, schema: Schema) -> Preparation:
        """What suits these rows: numbers that vary, parts of dates that vary, categories with the levels they have."""
        numbers: list[NumberSource] = []
        codes: list[CodeSource] = []
        texts: list[TextSource] = []
        for column in schema.columns:
            if column.kind == "number":
                numbers.append(NumberSource(column.name))
            elif column.kind == "date":
                sources = [NumberSource(column.name, part) for part in _DATE_PARTS]
                numbers += [s for s in sources if _varies(_number(columns, s))]
            elif column.kind == "category":
                codes.append(CodeSource(column.name, _levels(columns[column.name])))
            elif column.kind == "text":
                texts.append(TextSource.of(column.name, columns[column.name]))
        return cls(tuple(numbers), tuple(codes), tuple(texts))

    def apply(self, columns: Columns, rows: int) -> Prepared:
        """Arrays of ``rows`` rows."""
        numbers = np.empty((rows, len(self.numbers)), np.float32)
        texts = [source.apply(columns[source.column]) for source in self.texts]
        codes = np.empty((rows, len(self.codes)), np.int16)
        for i, source in enumerate(self.numbers):
            numbers[:, i] = np.clip(_number(columns, source), -LARGEST, LARGEST)
        for i, category in enumerate(self.codes):
            codes[:, i] = _codes(columns[category.column], category.levels)
        return Prepared(np.concatenate([numbers, *texts], axis=1), codes)

    @property
    def width(self) -> int:
        """Prepared numbers of a row, those of texts among them."""
        return len(self.numbers) + sum(len(source.names) for source in self.texts)

    def names(self) -> list[str]:
        """Of the features: the numbers, those of texts, then the categories."""
        numbers = [s.column + (f" ({s.part})" if s.part else "") for s in self.numbers]
        return numbers + [name for source in self.texts for name in source.names] + [c.column for c in self.codes]

    def to_json(self) -> dict[str, Any]:
        """As an object of JSON."""
        return {
            "numbers": [[s.column, s.part] for s in self.numbers],
            "codes": [[c.column, list(c.levels)] for c in self.codes],
            "texts": [[t.column, list(t.words)] for t in self.texts],
        }

    def to_arrays(self) -> dict[str, NDArray[Any]]:
        """What JSON does not hold: the arrays of texts."""
        arrays: dict[str, NDArray[Any]] = {}
        for i, source in enumerate(self.texts):
            arrays |= {f"{i}.rarity": source.rarity, f"{i}.directions": source.directions}
        return arrays

    @classmethod
    def from_json(cls, content: Mapping[str, Any], arrays: Mapping[str, NDArray[Any]]) -> Preparation:
        """The one that :meth:`to_json` and :meth:`to_arrays` gave.

        Raises:
            RunError: It is not of that form.
        """
        try:
            return cls(
                tuple(NumberSource(str(column), str(part)) for column, part in content["numbers"]),
                tuple(CodeSource(str(column), tuple(map(str, levels))) for column, levels in content["codes"]),
                tuple(_text(i, column, words, arrays) for i, (column, words) in enumerate(content["texts"])),
            )
        except (KeyError, TypeError, ValueError) as error:
            raise RunError(f"preparation must hold numbers, codes and texts of columns, got {content!r:.80}") from error


def _text(number: int, column: Any, words: Any, arrays: Mapping[str, NDArray[Any]]) -> TextSource:
    rarity, directions = arrays[f"{number}.rarity"], arrays[f"{number}.directions"]
    if rarity.shape != (len(words),) or directions.shape[:1] != (len(words),) or directions.ndim != 2:
        raise ValueError(f"{len(words)} words do not go with {rarity.shape} and {directions.shape}")
    return TextSource(str(column), tuple(map(str, words)), rarity, directions)


def _number(columns: Columns, source: NumberSource) -> NDArray[np.float64]:
    values: NDArray[np.float64] = columns[source.column]
    if not source.part:
        return values
    days = np.floor(values / _DAY)
    if source.part == "days":
        return days
    if source.part == "weekday":
        return (days + 3) % 7  # 1 January 1970 was a Thursday; Monday is 0
    if source.part == "hour":
        return np.floor((values - days * _DAY) / 3600)
    known = np.isfinite(days)
    months = np.where(known, days, 0).astype("datetime64[D]").astype("datetime64[M]").astype(np.int64) % 12 + 1
    return np.where(known, months, np.nan)


def _varies(values: NDArray[np.float64]) -> bool:
    known = values[np.isfinite(values)]
    return known.size > 0 and bool((known != known[0]).any())


def _levels(texts: pa.Array) -> tuple[str, ...]:
    counted = pc.value_counts(texts.drop_null())
    counts = Counter(dict(zip(counted.field(0).to_pylist(), counted.field(1).to_pylist(), strict=True)))
    # By frequency, then by text: the order of the rows does not matter.
    ordered = sorted(counts.items(), key=lambda item: (-item[1], item[0]))
    return tuple(level for level, count in ordered[:MAX_LEVELS] if count >= _RARE)


def _codes(texts: pa.Array, levels: tuple[str, ...]) -> NDArray[np.int16]:
    found = pc.index_in(texts, value_set=pa.array(levels, pa.string()))
    place = np.asarray(found.fill_null(UNSEEN - FIRST_LEVEL)) + FIRST_LEVEL
    return np.where(np.asarray(texts.is_null()), MISSING, place).astype(np.int16)
