"""Markdown tables whose columns also line up in a terminal."""

from __future__ import annotations

from collections.abc import Sequence

Row = Sequence[str]


def render(headers: Row, rows: Sequence[Row]) -> str:
    """A Markdown table; every column but the first is right-aligned when it holds numbers only."""
    widths = [max(len(row[i]) for row in (headers, *rows)) for i in range(len(headers))]
    right = [i > 0 and all(_is_numeric(row[i]) for row in rows) for i in range(len(headers))]

    def line(cells: Row) -> str:
        parts = (c.rjust(w) if r else c.ljust(w) for c, w, r in zip(cells, widths, right, strict=True))
        return f"| {' | '.join(parts)} |"

    rule = "|".join("-" * (w + 1) + ":" if r else "-" * (w + 2) for w, r in zip(widths, right, strict=True))
    return "\n".join([line(headers), f"|{rule}|", *(line(row) for row in rows)])


def section(title: str, headers: Row, rows: Sequence[Row]) -> str:
    return f"\n{title}\n\n{render(headers, rows)}"


def milliseconds(seconds: float) -> str:
    value = seconds * 1e3
    return f"{value:.2f}" if value < 100 else f"{value:.0f}"


def times(ratio: float) -> str:
    return f"{ratio:.2f}x"


def percent(share: float) -> str:
    return f"{100 * share:.0f}%"


def megabytes(count: float) -> str:
    value = count / 1e6
    return f"{value:.2f}" if value < 100 else f"{value:.0f}"


def _is_numeric(cell: str) -> bool:
    return cell in ("", "-") or cell[0].isdigit()
