"""Spaces and strategies of the user's own, loaded from a Python file."""

from __future__ import annotations

import importlib.util
import sys
from collections.abc import Sequence
from pathlib import Path

from nasfast.errors import ConfigError


def load_plugins(files: Sequence[Path]) -> None:
    """Run the files, which register what they have.

    Raises:
        ConfigError: A file is not there, or fails.
    """
    for file in files:
        name = f"nasfast_plugin_{file.stem}"
        spec = importlib.util.spec_from_file_location(name, file)
        if spec is None or spec.loader is None or not file.is_file():
            raise ConfigError(f"--plugin must be a Python file, got {file}")
        module = importlib.util.module_from_spec(spec)
        sys.modules[name] = module
        try:
            spec.loader.exec_module(module)
        except Exception as error:
            raise ConfigError(f"--plugin {file} failed: {type(error).__name__}: {error}") from error
