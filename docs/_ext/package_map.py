"""A drawing of the packages in the order that import-linter checks, made from pyproject.toml."""

from __future__ import annotations

import ast
import re
import tomllib
from html import escape
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]

_WIDTH, _HEIGHT, _GAP, _TOP = 720, 34, 8, 6


def layers() -> list[list[str]]:
    """The packages, from those that import most to those that import nothing; one list for each layer."""
    content = tomllib.loads((ROOT / "pyproject.toml").read_text())
    contracts = content["tool"]["importlinter"]["contracts"]
    found = next(contract["layers"] for contract in contracts if contract["type"] == "layers")
    return [re.split(r"\s*[:|]\s*", layer) for layer in found]


def purpose(package: str) -> str:
    """The first line of a package's docstring."""
    for path in (ROOT / "nasfast" / package / "__init__.py", ROOT / "nasfast" / f"{package}.py"):
        if path.is_file():
            return (ast.get_docstring(ast.parse(path.read_text())) or "").split("\n")[0]
    return ""


def picture() -> str:
    """The layers as boxes one above the other; arrows of import point downwards only."""
    rows = layers()
    height = _TOP + len(rows) * (_HEIGHT + _GAP)
    boxes = []
    for index, packages in enumerate(rows):
        y, width = _TOP + index * (_HEIGHT + _GAP), (_WIDTH - _GAP * (len(packages) - 1)) / len(packages)
        for place, package in enumerate(packages):
            x = place * (width + _GAP)
            boxes.append(
                f'<rect x="{x:.1f}" y="{y}" width="{width:.1f}" height="{_HEIGHT}" rx="5" '
                'fill="none" stroke="currentColor" stroke-opacity="0.45"/>'
                f'<text x="{x + width / 2:.1f}" y="{y + _HEIGHT / 2 + 5}" text-anchor="middle" '
                f'font-size="14" fill="currentColor">{escape(package)}</text>'
            )
    label = "The packages of nasfast in layers; each imports only from the layers below it."
    svg = f'<svg viewBox="0 -1 {_WIDTH} {height}" role="img" aria-label="{label}">{"".join(boxes)}</svg>'
    return f"```{{raw}} html\n{svg}\n```"


def table() -> str:
    """Every package with what it is for, from the lowest layer up."""
    rows = [f"| `{package}` | {purpose(package)} |" for layer in reversed(layers()) for package in layer]
    return "\n".join(["| package | what it is for |", "|:--|:--|", *rows])
