"""Fields of settings, their names on the command line, and files of settings."""

from __future__ import annotations

import json
import os
import tomllib
from collections.abc import Sequence
from dataclasses import MISSING, field
from pathlib import Path
from typing import Any

from nasfast.errors import ConfigError

RUN_PANEL, SPACE_PANEL, WEIGHTS_PANEL = "Run", "Search of a space", "Weights"
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
        text = path.read_text(encoding="utf-8")
        content = tomllib.loads(text) if path.suffix.lower() == ".toml" else json.loads(text)
    except OSError as error:
        raise ConfigError(f"cannot read config file {path}: {error.strerror}") from error
    except ValueError as error:
        raise ConfigError(f"config file {path} is not valid: {error}") from error
    if not isinstance(content, dict):
        raise ConfigError(f"config file {path} must hold settings by name, got {type(content).__name__}")
    return content
