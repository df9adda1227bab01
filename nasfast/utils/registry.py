"""A table of what can be made, by name: each entry is loaded when it is first asked for."""

from __future__ import annotations

import importlib
from collections.abc import Callable, Iterator, Mapping
from typing import Any, Generic, TypeVar

from nasfast.errors import ConfigError

T = TypeVar("T")


class Registry(Mapping[str, T], Generic[T]):
    """Makers by name. To list the names loads nothing.

    Args:
        what: What one entry is, for errors: "space", "strategy".
        places: By name, ``module:attribute`` of the makers that come with nasfast.
    """

    def __init__(self, what: str, places: Mapping[str, str]) -> None:
        self._what = what
        self._entries: dict[str, str | T] = dict(places)

    def __getitem__(self, name: str) -> T:
        entry = self._entries[name]
        if isinstance(entry, str):
            module, _, attribute = entry.partition(":")
            entry = self._entries[name] = getattr(importlib.import_module(module), attribute)
        return entry

    def __iter__(self) -> Iterator[str]:
        return iter(self._entries)

    def __len__(self) -> int:
        return len(self._entries)

    def register(self, name: str) -> Callable[[Any], Any]:
        """A decorator that enters a maker of your own under this name.

        Raises:
            ConfigError: The name is taken, or is not made of letters, digits and dashes.
        """

        def enter(maker: Any) -> Any:
            if not name or not all(part.isalnum() for part in name.split("-")):
                raise ConfigError(f"the name of a {self._what} is letters and digits with dashes, got {name!r}")
            if name in self._entries:
                raise ConfigError(f"there is a {self._what} {name!r} already; register yours under another name")
            self._entries[name] = maker
            return maker

        return enter
