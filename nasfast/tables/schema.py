"""What is known of the columns of a table: which kind each is, why, and how its values are read."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import MISSING as NO_DEFAULT
from dataclasses import dataclass, fields
from typing import Any, Literal, get_args, get_type_hints

from nasfast.errors import DataError
from nasfast.utils.convert import Converter
from nasfast.utils.suggest import did_you_mean

Kind = Literal["number", "category", "date", "text", "ignored"]
KINDS: tuple[Kind, ...] = get_args(Kind)
Truth = Literal["", "0/1", "true/false"]

FORMAT = 1


@dataclass(frozen=True)
class Column:
    """A feature.

    Attributes:
        name: As in the table.
        kind: What it is used as.
        reason: Why, for people.
        decimal, thousands: Of numbers that are text: see :class:`nasfast.tables.number_text.NumberStyle`.
        order: Of dates that are text: one of :data:`nasfast.tables.date_text.ORDERS`.
        sentinels: Numbers that stand for a missing value.
        kept: Markers of a missing value that are values here.
        truth: Of a category of two values, which are the same: 0 and false, 1 and true.
        alternative: Kind to give where the reason does not hold; "" where nothing was guessed.
        lost: Rows whose values are neither missing nor of this kind; they count as missing.
    """

    name: str
    kind: Kind
    reason: str
    decimal: str = "."
    thousands: str = ""
    order: str = ""
    sentinels: tuple[float, ...] = ()
    kept: tuple[str, ...] = ()
    truth: Truth = ""
    alternative: str = ""
    lost: int = 0

    def to_json(self) -> dict[str, Any]:
        """As JSON, without what is as usual."""
        content = {f.name: getattr(self, f.name) for f in fields(self)}
        usual = {f.name: f.default for f in fields(self) if f.default is not NO_DEFAULT}
        kept = {name: value for name, value in content.items() if name not in usual or usual[name] != value}
        return {name: list(value) if isinstance(value, tuple) else value for name, value in kept.items()}

    @classmethod
    def from_json(cls, content: Any, where: str = "a column") -> Column:
        """The column of its JSON.

        Raises:
            DataError: It has an unknown key, lacks one, or has a value of another type.
        """
        return cls(**read_fields(cls, content, where))


@dataclass(frozen=True)
class Schema:
    """The features of a table, in the order of its columns: not the target, nor columns with another role."""

    columns: tuple[Column, ...]

    @property
    def used(self) -> tuple[Column, ...]:
        """The columns that are not ignored."""
        return tuple(column for column in self.columns if column.kind != "ignored")

    def __getitem__(self, name: str) -> Column:
        found = next((column for column in self.columns if column.name == name), None)
        if found is None:
            raise KeyError(name)
        return found

    def to_json(self) -> dict[str, Any]:
        """As JSON."""
        return {"format": FORMAT, "columns": [column.to_json() for column in self.columns]}

    @classmethod
    def from_json(cls, content: Any) -> Schema:
        """The schema of its JSON.

        Raises:
            DataError: It is of another format, or malformed: the message names the column and the key.
        """
        if not isinstance(content, Mapping) or not isinstance(content.get("columns"), list):
            raise DataError("the schema is no object with a list of columns: expected what Schema.to_json gives")
        if content.get("format") != FORMAT:
            raise DataError(f"the schema has the format {content.get('format')!r}: expected {FORMAT}")
        _check_keys(content, ("format", "columns"), "the schema")
        columns = tuple(_column(place, part) for place, part in enumerate(content["columns"], 1))
        names = [column.name for column in columns]
        twice = next((name for name in names if names.count(name) > 1), None) if len(set(names)) < len(names) else None
        if twice is not None:
            raise DataError(f"the schema has the column {twice!r} twice: expected each once")
        return cls(columns)


def _column(place: int, content: Any) -> Column:
    name = content.get("name") if isinstance(content, Mapping) else None
    return Column.from_json(content, f"column {name!r} of the schema" if name else f"column {place} of the schema")


def read_fields(kind: type[Any], content: Any, where: str) -> dict[str, Any]:
    """The fields of a dataclass from JSON, each in its type.

    Raises:
        DataError: There is an unknown key, one is absent, or a value is of another type.
    """
    known, needed = _fields(kind)
    if not isinstance(content, Mapping):
        raise DataError(f"{where} is {type(content).__name__}: expected an object with {', '.join(needed)}")
    _check_keys(content, tuple(known), where)
    absent = next((name for name in needed if name not in content), None)
    if absent is not None:
        raise DataError(f"{where} has no {absent!r}: expected {', '.join(needed)}")
    convert = Converter(error=DataError)
    return {name: convert(f"{name!r} of {where}", known[name], value) for name, value in content.items()}


def _fields(kind: Any) -> tuple[dict[str, Any], tuple[str, ...]]:
    types = get_type_hints(kind)
    return {f.name: types[f.name] for f in fields(kind)}, tuple(f.name for f in fields(kind) if f.default is NO_DEFAULT)


def _check_keys(content: Mapping[str, Any], known: tuple[str, ...], where: str) -> None:
    unknown = next((key for key in content if key not in known), None)
    if unknown is not None:
        raise DataError(f"{where} has an unknown key {unknown!r}{did_you_mean(unknown, known)}")
