"""What a run was made with: its configuration, its environment and the command to do it again."""

from __future__ import annotations

import shlex
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from nasfast.report.run_data import RunData, flatten

_ENVIRONMENT_KEYS = ("environment", "env", "system")
_KINDS = ("search", "blackbox", "oneshot", "compare")


@dataclass(frozen=True)
class Setting:
    """Names and texts as a page lists them."""

    command: str
    environment: list[tuple[str, str]]
    configuration: list[tuple[str, str]]


def setting_of(data: RunData) -> Setting:
    config = dict(data.config)
    environment: dict[str, Any] = {}
    for key in _ENVIRONMENT_KEYS:
        if isinstance(config.get(key), dict):
            environment |= config.pop(key)
    search = next((found for kind in _KINDS if (found := config.pop(kind, None))), None)
    shown = {key: config[key] for key in config if key not in ("format", "nasfast", "command")}
    shown |= search if isinstance(search, dict) else {}
    return Setting(_command(data), flatten(environment), flatten(shown))


def _command(data: RunData) -> str:
    """The command that makes this run again: as it was given where the run recorded it, else from its config.json."""
    command = data.config.get("command")
    if isinstance(command, list) and command:
        return shlex.join(str(part) for part in command)
    if isinstance(command, str) and command:
        return command
    if "compare" in data.config:
        return "nasfast compare " + " ".join(_as_options(data.config["compare"]))
    return shlex.join(["nasfast", "search", "--config", str(data.path / "config.json"), "--out", f"{data.name}-again"])


def _as_options(settings: Mapping[str, Any]) -> list[str]:
    """Settings as they are given on the command line."""
    texts = []
    for name, value in settings.items():
        flag = "--" + name.replace("_", "-")
        if isinstance(value, list):
            texts += [f"{flag} {shlex.quote(str(item))}" for item in value]
        elif isinstance(value, bool):
            texts += [flag] if value else []
        elif value != "":
            texts.append(f"{flag} {shlex.quote(str(value))}")
    return texts
