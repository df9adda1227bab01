"""Fields of settings, their names on the command line, and files of settings."""

from __future__ import annotations

import os
import tomllib
from collections.abc import Sequence
from dataclasses import MISSING, field
from pathlib import Path
from typing import Any

from nasfast.errors import ConfigError
from nasfast.utils.texts import read_json, read_text

RUN_PANEL, SPACE_PANEL, WEIGHTS_PANEL = "Run", "Search of a space", "Weights"
_EXPECTED = "settings by name"

TRAIN_PANEL, SHARED_PANEL = "Training of each architecture", "Shared network"


def option(
    default: Any = MISSING,
    help: str | None = None,
    low: float | None = None,
    high: float | None = None,
    panel: str | None = None,
) -> Any:
    """A field with its help, its smallest and largest value, and its panel of the command line, if not its block's."""
    return field(default=default, metadata={"help": help, "low": low, "high": high, "panel": panel})


def option_name(name: str) -> str:
    """The command line's name of a field."""
    return "--" + name.replace("_", "-")


def named_texts(name: str, texts: Sequence[str]) -> dict[str, str]:
    """The pairs of an option ``name`` that is given as NAME=VALUE, any number of times."""
    if isinstance(texts, str) or not isinstance(texts, Sequence) or not all(isinstance(text, str) for text in texts):
        raise ConfigError(f"{name} must be a list of texts NAME=VALUE, got {texts!r}")
    pairs = [text.partition("=") for text in texts]
    for key, mark, value in pairs:
        if not (key.strip() and value.strip()):
            raise ConfigError(f"{name} must be NAME=VALUE, got {key + mark + value!r}")
    return {key.strip(): value.strip() for key, _, value in pairs}


def read_content(path: str | os.PathLike[str]) -> dict[str, Any]:
    """The object that a JSON or TOML file holds.

    Raises:
        ConfigError: The file cannot be read, or holds something else.
    """
    path = Path(path)
    try:
        content = _read_toml(path) if path.suffix.lower() == ".toml" else read_json(path, _EXPECTED, ConfigError)
    except ConfigError as error:
        raise ConfigError(f"config file: {error}") from error
    if not isinstance(content, dict):
        raise ConfigError(f"config file {path} must hold settings by name, got {type(content).__name__}")
    return content


def _read_toml(path: Path) -> dict[str, Any]:
    text = read_text(path, _EXPECTED, ConfigError)
    try:
        return tomllib.loads(text)
    except ValueError as error:
        raise ConfigError(f"{path} is not valid TOML ({error}): expected {_EXPECTED}") from error
    except RecursionError:
        raise ConfigError(f"{path} is nested too deep: expected {_EXPECTED}") from None
