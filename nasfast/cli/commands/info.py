"""``nasfast info``."""

from __future__ import annotations

import json
from typing import Annotated

import typer

from nasfast.cli.errors import one_line_errors


@one_line_errors
def info(as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False) -> None:
    """Show versions, the extension's build and instruction set, threads, and the GPU or why there is none."""
    from nasfast.runs.environment import describe_environment

    content = describe_environment()
    if as_json:
        print(json.dumps(content, indent=2, default=str))
        return
    extension = content.pop("extension")
    built = {"": extension} if isinstance(extension, str) else extension
    for name, value in (content | {f"extension {name}".strip(): value for name, value in built.items()}).items():
        print(f"{name:<22} {value}")
