"""Values, or their texts, in the types of the settings that they are for."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from types import NoneType
from typing import Any, Literal, get_args, get_origin

from nasfast.errors import ConfigError, NasfastError
from nasfast.utils.suggest import must_be_one_of


@dataclass(frozen=True)
class Converter:
    """Puts a value in a type: a scalar, a choice of texts, a list or a pair of these, or one of these and None.

    A whole number may stand for a float. No other type stands for another.

    Attributes:
        texts: A text may stand for any value: a list as ``3,5,7``, a pair as ``24:1``.
        words: What types are called in errors; by default ``of type int`` and so on.
        error: What to raise.
    """

    texts: bool = False
    words: Mapping[Any, str] = field(default_factory=dict)
    error: type[NasfastError] = ConfigError

    def __call__(self, where: str, kind: Any, value: Any) -> Any:
        """The value in this type; ``where`` says in errors what it is of.

        Raises:
            NasfastError: It is of another type.
        """
        parts, origin = get_args(kind), get_origin(kind)
        if NoneType in parts:
            absent = value is None or (self.texts and value == "null")
            return None if absent else self(where, next(part for part in parts if part is not NoneType), value)
        if origin is Literal:
            if value in parts:
                return value
            raise self.error(f"{where} {must_be_one_of(value, parts)}")
        if origin in (Sequence, tuple):
            return self._items(where, parts, origin is tuple and ... not in parts, value)
        found = _read(kind, value) if self.texts and isinstance(value, str) else value
        if kind is float and type(found) is int:
            found = float(found)
        if isinstance(found, kind) and (kind is bool or not isinstance(found, bool)):
            return found
        return self._refuse(where, self.words.get(kind, f"of type {kind.__name__}"), value)

    def _items(self, where: str, parts: tuple[Any, ...], pair: bool, value: Any) -> tuple[Any, ...]:
        mark = ":" if pair else ","
        items = value.split(mark) if self.texts and isinstance(value, str) else value
        if not isinstance(items, (list, tuple)) or (pair and len(items) != len(parts)):
            numbers = f"{'two ' if pair else ''}numbers joined by {mark!r}"
            self._refuse(where, numbers if self.texts else "a list of texts", value)
        kinds = parts if pair else parts[:1] * len(items)
        return tuple(self(where, part, item) for part, item in zip(kinds, items, strict=True))

    def _refuse(self, where: str, expected: str, value: Any) -> Any:
        raise self.error(f"{where} must be {expected}, got {value!r}")


def _read(kind: Any, text: str) -> Any:
    """What a text stands for; the text itself where it is nothing of this type."""
    if kind is str:  # an architecture may be all digits
        return text
    try:
        return kind(text) if kind in (int, float) else json.loads(text)
    except ValueError:
        return text
