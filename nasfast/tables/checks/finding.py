"""A finding: what a check has seen, how bad it is, and what to do."""

from __future__ import annotations

import shlex
from dataclasses import asdict, dataclass
from typing import Any, Literal, get_args

Severity = Literal["error", "warning", "info"]
SEVERITIES: tuple[Severity, ...] = get_args(Severity)


@dataclass(frozen=True)
class Finding:
    """What a check has seen.

    Attributes:
        severity: error where a score would mislead, warning where it may, info where something was guessed or is to
            be known.
        column: Which one; "" for the table as a whole.
        text: What was seen.
        advice: What to do, if anything.
    """

    severity: Severity
    column: str
    text: str
    advice: str = ""

    def to_json(self) -> dict[str, Any]:
        """As JSON."""
        return asdict(self)


def types_option(column: str, kind: str) -> str:
    """The option that gives a column its kind."""
    return f"--types {shlex.quote(f'{column}={kind}')}"
