"""Which features of a prepared table come from which column of the table."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from nasfast.automl.prepare import Preparation, Prepared
from nasfast.tables import Schema


@dataclass(frozen=True)
class Source:
    """A column of the table.

    Attributes:
        kind: "number", "date", "category" or "text".
        numbers: Which of the prepared numbers are its own.
        codes: Which of the prepared codes are.
    """

    name: str
    kind: str
    numbers: tuple[int, ...]
    codes: tuple[int, ...]

    def put(self, into: Prepared, values: Prepared) -> None:
        """Overwrite this column's features in rows [N] by those of other rows [N] or [1]."""
        own, codes = list(self.numbers), list(self.codes)
        into.numbers[:, own] = values.numbers[:, own]
        into.codes[:, codes] = values.codes[:, codes]


def sources_of(preparation: Preparation, schema: Schema) -> tuple[Source, ...]:
    """The columns that a model looks at, in the order of its schema."""
    numbers = [source.column for source in preparation.numbers]
    numbers += [text.column for text in preparation.texts for _ in text.names]
    codes = [source.column for source in preparation.codes]
    made = (Source(c.name, c.kind, _places(numbers, c.name), _places(codes, c.name)) for c in schema.used)
    return tuple(source for source in made if source.numbers or source.codes)


def owners(sources: tuple[Source, ...], prepared: Prepared) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """The number of the source of each prepared number [Fn] and of each code [Fc]."""
    numbers = np.zeros(prepared.numbers.shape[1], np.int64)
    codes = np.zeros(prepared.codes.shape[1], np.int64)
    for i, source in enumerate(sources):
        numbers[list(source.numbers)] = i
        codes[list(source.codes)] = i
    return numbers, codes


def copy_of(prepared: Prepared) -> Prepared:
    """One that may be written to."""
    return Prepared(prepared.numbers.copy(), prepared.codes.copy())


def _places(columns: list[str], name: str) -> tuple[int, ...]:
    return tuple(i for i, column in enumerate(columns) if column == name)
