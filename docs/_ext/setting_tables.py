"""The settings of spaces, strategies and runs as Markdown tables, read from the code that takes them."""

from __future__ import annotations

import inspect
from dataclasses import MISSING, Field, fields
from functools import partial
from typing import Any

from nasfast.config.blackbox import BlackBoxConfig
from nasfast.config.compare import CompareConfig
from nasfast.config.gradient import SearchConfig
from nasfast.config.oneshot import OneShotConfig
from nasfast.spaces.registry import SPACES, make_space
from nasfast.strategies.registry import STRATEGIES


def _table(header: str, rows: list[str]) -> str:
    return "\n".join([header, "|" + ":--|" * (header.count("|") - 1), *rows])


def _value(value: Any) -> str:
    if isinstance(value, tuple):
        return ",".join(":".join(map(str, v)) if isinstance(v, tuple) else str(v) for v in value)
    return str(value)


def _count(number: int) -> str:
    return f"{number:,}" if number < 10**7 else f"{number:.3g}"


def spaces() -> str:
    """Every built-in space at the size of its paper, with its settings."""
    rows = []
    for name, maker in SPACES.items():
        space = make_space(name)
        known = inspect.signature(maker).parameters
        given = ", ".join(f"`{key}={_value(parameter.default)}`" for key, parameter in known.items())
        rows.append(f"| `{name}` | {len(space.decisions)} | {_count(space.count())} | {given} |")
    return _table("| space | decisions | architectures | settings for `--space-set`, with their defaults |", rows)


def strategies() -> str:
    """Every black-box strategy with its paper and its settings."""
    rows = []
    for name, maker in STRATEGIES.items():
        kind: Any = maker.func if isinstance(maker, partial) else maker
        over = maker.keywords if isinstance(maker, partial) else {}
        given = ", ".join(f"`{f.name}={_default(f, over)}`" for f in fields(kind))
        rows.append(f"| `{name}` | {getattr(kind, 'paper', '')} | {given or 'none'} |")
    return _table("| strategy | paper | settings for `--set`, with their defaults |", rows)


def _default(field: Field[Any], over: dict[str, Any]) -> str:
    if field.name in over:
        return _value(over[field.name])
    if field.default is not MISSING:
        return _value(field.default)
    return "" if field.default_factory is MISSING else _value(field.default_factory())


def runs() -> str:
    """The fields of each kind of run, as `nasfast.run_search` and `nasfast.run_compare` take them."""
    kinds = (
        ("A search by gradients", SearchConfig),
        ("A black-box search", BlackBoxConfig),
        ("A one-shot search", OneShotConfig),
        ("A comparison", CompareConfig),
    )
    parts = []
    for title, config in kinds:
        rows = [f"| `{f.name}` | {_cell(_default(f, {}))} | {_cell(f.metadata['help'])} |" for f in fields(config)]
        parts.append(f"## {title}\n\n" + _table("| setting | default | meaning |", rows))
    return "\n\n".join(parts)


def _cell(text: str) -> str:
    return " ".join(text.split()).replace("|", "\\|").replace("*", "\\*").replace("<", "&lt;")
