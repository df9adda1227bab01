"""What ``nasfast check`` prints: tables on a terminal, plain lines elsewhere, or JSON."""

from __future__ import annotations

import json
import sys
from typing import TYPE_CHECKING

from nasfast.tables.checks.finding import types_option
from nasfast.tables.target import class_counts
from nasfast.utils.shown import shown

if TYPE_CHECKING:
    from nasfast.tables.checks import CheckResult

_STYLES = {"error": "bold red", "warning": "yellow", "info": "cyan"}
_CLASSES = 6
_WIDEST = 32  # characters of a name in a plain line, beyond which the next column moves

Rows = list[list[str]]


def as_content(result: CheckResult) -> str:
    """The result as JSON."""
    content = {
        "rows": result.table.rows,
        "files": [{"name": part.name, "rows": part.rows} for part in result.table.parts],
        "notes": list(result.table.notes),
        "target": result.target.spec.to_json(),
        "schema": result.schema.to_json(),
        "findings": [finding.to_json() for finding in result.findings],
    }
    return json.dumps(content, indent=2)


def print_check(result: CheckResult) -> None:
    """Print the result for people."""
    columns = [
        [shown(c.name), c.kind, shown(c.reason), types_option(c.name, c.alternative) if c.alternative else ""]
        for c in result.schema.columns
    ]
    findings = [[f.severity, shown(f.column), shown(f.text), shown(f.advice)] for f in result.findings]
    for line in _about(result):
        print(shown(line))
    if sys.stdout.isatty():
        _print_tables(columns, findings)
        return
    print("columns")
    _print_lines(columns)
    print("findings")
    _print_lines(findings or [["none"]])


def _about(result: CheckResult) -> list[str]:
    table, target = result.table, result.target
    lines = [f"table      {table.rows:,} rows, {len(table.names)} columns"]
    if len(table.parts) > 1:
        lines += [f"file       {part.name}: {part.rows:,} rows" for part in table.parts]
    lines += [f"note       {note}" for note in table.notes]
    lines.append(f"target     {target.name}: {target.task} ({target.reason})")
    if target.classes:
        counts = class_counts(target).tolist()
        few = [f"{name} {count:,}" for name, count in zip(target.classes, counts, strict=True)]
        lines.append(f"classes    {', '.join(few[:_CLASSES])}{' ...' if len(few) > _CLASSES else ''}")
    return lines


def _print_lines(rows: Rows) -> None:
    """Columns below each other, but the last two, which follow on as a sentence."""
    widths = [min(_WIDEST, max(len(row[i]) for row in rows)) for i in range(len(rows[0]) - 2)]
    for row in rows:
        first = [f"{cell:<{width}}" for cell, width in zip(row, widths, strict=False)]
        rest = "; ".join(filter(None, row[len(widths) :]))
        print("  " + "  ".join([*first, rest]).rstrip())


def _print_tables(columns: Rows, findings: Rows) -> None:
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    console = Console()
    for title, head, rows in (
        ("columns", ("column", "kind", "reason", "if that is wrong"), columns),
        ("findings", ("", "column", "what was seen", "what to do"), findings),
    ):
        table = Table(*head, title=title, title_justify="left", box=None, pad_edge=False, padding=(0, 2, 0, 0))
        for row in rows:
            table.add_row(*(Text(cell, _STYLES.get(cell, "") if title == "findings" else "") for cell in row))
        console.print(table)
