"""What all settings have in common: they are checked, and made from a file or a caller's values.

The command line is made from their fields, so an option, its help and its check are written once.
"""

from __future__ import annotations

import functools
import inspect
import os
from collections.abc import Mapping, Sequence
from dataclasses import MISSING, Field, asdict, dataclass, field, fields
from typing import Any, ClassVar, Literal, get_origin, get_type_hints

from nasfast.config.base import option, option_name
from nasfast.config.rules import check_rules
from nasfast.errors import ConfigError
from nasfast.utils.convert import Converter
from nasfast.utils.suggest import did_you_mean

_convert = Converter()


@dataclass(frozen=True)
class Settings:
    """Values by name, checked: the base of the settings of every kind of run.

    A block of settings that several kinds share is a subclass, and a kind is a subclass of its blocks. A field of a
    block gets another default by ``epochs: int = 20``, another help or range too by :func:`option`; what that leaves
    out is as in the block. ``panel`` is that of the command line for the fields that a class adds.

    Raises:
        ConfigError: A value is out of range, or two do not go together; the message names the option.
    """

    owner: ClassVar[str]
    """What the settings are of, for errors."""

    panels: ClassVar[Mapping[str, str]] = {}
    """Titles of panels of the command line, where they are not those of the blocks."""

    def __init_subclass__(cls, panel: str = "") -> None:
        blocks: dict[str, Field[Any]] = {}
        for base in reversed(cls.__mro__[1:]):
            blocks |= getattr(base, "__dataclass_fields__", {})
        for name in inspect.get_annotations(cls):
            given = cls.__dict__.get(name, MISSING)
            if name in blocks or isinstance(given, Field):
                setattr(cls, name, _changed(blocks.get(name, option(panel=panel)), given))

    def __post_init__(self) -> None:
        for f in fields(self):
            _check_value(f, self.types()[f.name], getattr(self, f.name))
        self.check()
        check_rules(self)

    def check(self) -> None:
        """Raise ConfigError where a text is none of its forms."""

    @classmethod
    @functools.cache
    def types(cls) -> dict[str, Any]:
        """Types of the settings by name."""
        hints = get_type_hints(cls)
        return {f.name: hints[f.name] for f in fields(cls)}

    @classmethod
    def known(cls, settings: Mapping[str, Any]) -> Sequence[str]:
        """Names that may stand in these settings."""
        return tuple(cls.types())

    @classmethod
    def typed(cls, settings: Mapping[str, Any]) -> dict[str, Any]:
        """Values from a file or a caller in the types of their fields.

        Raises:
            ConfigError: An unknown name, or a value of another type.
        """
        for name in settings:
            if name not in cls.known(settings):
                raise ConfigError(cls.unknown(name, settings))
        return {name: _typed(name, cls.types()[name], value) for name, value in settings.items()}

    @classmethod
    def unknown(cls, name: str, settings: Mapping[str, Any]) -> str:
        """What to say of a name that is not known."""
        known = [option_name(other) for other in cls.known(settings)]
        close = did_you_mean(option_name(name), known)
        return f"{option_name(name)} does not go with {cls.owner}; it has {', '.join(known)}{close}"

    def to_dict(self) -> dict[str, Any]:
        """Plain values by name."""
        return {name: list(value) if isinstance(value, tuple) else value for name, value in asdict(self).items()}


def check_ranges(values: Mapping[str, Any], kinds: Sequence[type[Settings]]) -> None:
    """Raise ConfigError where a number is out of range in every kind that has the setting.

    It says what is wrong before it is known which kind is meant, for which spaces, and so torch, have to be loaded.
    """
    for name, value in values.items():
        owners = [kind for kind in kinds if name in kind.types()] if isinstance(value, (int, float)) else []
        errors = [error for kind in owners if (error := _fault(kind, name, value)) is not None]
        if errors and len(errors) == len(owners):
            raise errors[0]


def _fault(kind: type[Settings], name: str, value: Any) -> ConfigError | None:
    found = next(f for f in fields(kind) if f.name == name)
    if found.metadata["low"] is None:
        return None
    try:
        _check_value(found, kind.types()[name], value)
    except ConfigError as error:
        return error
    return None


def _changed(block: Field[Any], change: Any) -> Any:
    """A field of a block with another default, help, panel or range."""
    given = change if isinstance(change, Field) else option(change)
    metadata = {key: value for key, value in given.metadata.items() if value is not None}
    return field(
        default=block.default if given.default is MISSING else given.default, metadata={**block.metadata, **metadata}
    )


def _typed(name: str, kind: Any, value: Any) -> Any:
    where = option_name(name) if get_origin(kind) is Literal else f"setting {name!r}"
    return _convert(where, kind, os.fspath(value) if isinstance(value, os.PathLike) else value)


def _check_value(f: Field[Any], kind: Any, value: Any) -> None:
    """Type and range of one value."""
    _typed(f.name, kind, value)
    low, high = f.metadata["low"], f.metadata["high"]
    if value is None or low is None:
        return
    if not value >= low or (high is not None and not value <= high):
        expected = f"at least {low}" if high is None else f"{low} to {high}"
        raise ConfigError(f"{option_name(f.name)} must be {expected}, got {value}")
