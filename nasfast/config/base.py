"""All settings of a search in one place: their defaults, what they mean, what is possible, and their file form.

The command line is made from these fields, so an option, its help and its check are written once.
"""

from __future__ import annotations

import json
import os
import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import Field, field
from pathlib import Path
from types import UnionType
from typing import Any, Literal, get_args, get_origin

from nasfast.errors import ConfigError
from nasfast.spaces.registry import DIGITS as DIGITS_SPACES


def option(default: Any, help: str, group: str, low: float | None = None, high: float | None = None) -> Any:
    """A field with its help, the panel of the command line it belongs to, and its smallest and largest value."""
    return field(default=default, metadata={"help": help, "group": group, "low": low, "high": high})


DATA_PANEL, NET_PANEL, TRAIN_PANEL, ARCH_PANEL, GUARD_PANEL = (
    "Data",
    "Search network",
    "Weights",
    "Architecture",
    "Collapse guard",
)
RUN_PANEL, RETRAIN_PANEL, SPACE_PANEL = "Run", "Retraining", "Search of a space"


def _without_none(hint: Any) -> Any:
    if get_origin(hint) is UnionType:
        return next(option for option in get_args(hint) if option is not type(None))
    return hint


def space_set_for(data: str, space: str, texts: Sequence[str]) -> tuple[str, ...]:
    """Settings of a space as NAME=VALUE: those given, on the digits over those that make a small one."""
    if data != "digits":
        return tuple(texts)
    small = {**DIGITS_SPACES.get(space, {}), **named_texts("--space-set", texts)}
    return tuple(f"{name}={value}" for name, value in small.items())


def option_name(name: str) -> str:
    """The command line's name of a field."""
    return "--" + name.replace("_", "-")


def named_texts(name: str, texts: Sequence[str]) -> dict[str, str]:
    """The pairs of an option ``name`` that is given as NAME=VALUE, any number of times."""
    pairs = [text.partition("=") for text in texts]
    for key, mark, value in pairs:
        if not (key.strip() and value.strip()):
            raise ConfigError(f"{name} must be NAME=VALUE, got {key + mark + value!r}")
    return {key.strip(): value.strip() for key, _, value in pairs}


def convert_known(settings: Mapping[str, Any], types: Mapping[str, Any], owner: str) -> dict[str, Any]:
    """Values by name, in the types of their fields; ``owner`` is what the settings are of.

    Raises:
        ConfigError: An unknown name, or a value of another type.
    """
    for name in settings:
        if name not in types:
            known = ", ".join(map(option_name, types))
            raise ConfigError(f"{option_name(name)} does not go with {owner}; it has {known}")
    return {name: convert_value(name, types[name], value) for name, value in settings.items()}


def check_value(f: Field[Any], kind: Any, value: Any) -> None:
    """Range and choices of one value of a field of this type."""
    if get_origin(kind) is Literal and value not in get_args(kind):
        raise ConfigError(f"{option_name(f.name)} must be one of {', '.join(get_args(kind))}, got {value!r}")
    low, high = f.metadata["low"], f.metadata["high"]
    if value is None or low is None:
        return
    if not value >= low or (high is not None and not value <= high):
        expected = f"at least {low}" if high is None else f"{low} to {high}"
        raise ConfigError(f"{option_name(f.name)} must be {expected}, got {value}")


def convert_value(name: str, hint: Any, value: Any) -> Any:
    """A value from a file or a caller in the type of the field ``name``. A whole number may stand for a float.

    Raises:
        ConfigError: It is of another type.
    """
    kind = _without_none(hint)
    if value is None and kind is not hint:
        return None
    if get_origin(kind) is tuple:
        if isinstance(value, (list, tuple)) and all(isinstance(item, str) for item in value):
            return tuple(value)
        raise ConfigError(f"setting {name!r} must be a list of texts, got {value!r}")
    kind = str if get_origin(kind) is Literal else kind
    if kind is float and isinstance(value, int) and not isinstance(value, bool):
        return float(value)
    if not isinstance(value, kind) or (kind is not bool and isinstance(value, bool)):
        raise ConfigError(f"setting {name!r} must be of type {kind.__name__}, got {value!r}")
    return value


def read_content(path: str | os.PathLike[str]) -> dict[str, Any]:
    """The object that a JSON or TOML file holds.

    Raises:
        ConfigError: The file cannot be read, or holds something else.
    """
    path = Path(path)
    try:
        text = path.read_text(encoding="utf-8")
        content = tomllib.loads(text) if path.suffix.lower() == ".toml" else json.loads(text)
    except OSError as error:
        raise ConfigError(f"cannot read config file {path}: {error.strerror}") from error
    except ValueError as error:
        raise ConfigError(f"config file {path} is not valid: {error}") from error
    if not isinstance(content, dict):
        raise ConfigError(f"config file {path} must hold settings by name, got {type(content).__name__}")
    return content
