"""The report of a comparison of estimators: rank correlation with the full training over cost, drawn and as a table."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from html import escape
from pathlib import Path
from typing import Any

from markupsafe import Markup

from nasfast.errors import RunError
from nasfast.report.curves import Scale
from nasfast.report.formats import short_number
from nasfast.report.page import Table, render_page
from nasfast.report.run_data import RunData
from nasfast.utils.sealed import read_sealed

_WIDTH, _HEIGHT = 1080.0, 560.0
_LEFT, _RIGHT, _TOP, _BOTTOM = 60.0, 350.0, 16.0, 44.0
_FREE = 0.06  # of the width, left of the axis, for what costs nothing
_GAP = 13.0  # between labels
_COLOURS = {
    "training": "#1f5fae", "lower fidelity": "#3a8f5c", "learning curve": "#b9531a", "zero-cost": "#8a5fb0",
    "one-shot": "#c0392b", "inherited weights": "#2a9d9d", "predictor": "#a07a12", "table": "#67625a",
}  # fmt: skip

Row = Mapping[str, Any]


def load_comparison(path: Path) -> dict[str, Any]:
    """The content of comparison.json; {} where the run has not got that far.

    Raises:
        RunError: It cannot be read.
    """
    file = path / "comparison.json"
    if not file.is_file():
        return {}
    content = read_sealed(file, "a comparison", RunError)
    if not isinstance(content.get("estimators"), list):
        raise RunError(f"{file} holds no comparison: expected a list of estimators")
    return content


def render(path: Path, config: dict[str, Any]) -> str:
    """The whole page."""
    data, content = RunData(name=path.resolve().name, path=path, config=config), load_comparison(path)
    rows = content.get("estimators", [])
    costs = {"flops": "FLOPs an architecture", "seconds": "seconds an architecture"}
    return render_page(
        "comparison.html",
        data,
        settings=config["compare"],
        folder=Path(config["compare"]["data"]).name,
        charts={label: Markup(comparison_svg(rows, key, label)) for key, label in costs.items()},
        table=_table(rows),
        architectures=rows[0]["count"] if rows else 0,
        omitted=content.get("omitted", {}),
    )


def _number(value: float | None, digits: int = 3) -> str:
    return "-" if value is None else f"{value:.{digits}f}".replace("-", "−")


def _table(rows: Sequence[Row]) -> Table:
    """All numbers, best tau first."""
    ranked = sorted(rows, key=lambda row: -math.inf if row["tau"] is None else row["tau"], reverse=True)
    cells = [
        [
            row["name"], _number(row["tau"]), f"{_number(row['low'], 2)} … {_number(row['high'], 2)}",
            _number(row["spearman"]), short_number(row["flops"]), f"{row['seconds']:.3g}",
            "-" if row["uncertainty"] is None else f"{row['uncertainty']:.3g}", str(row["count"]),
        ]
        for row in ranked
    ]  # fmt: skip
    head = ("estimator", "tau", "95 %", "Spearman", "FLOPs", "seconds", "mean uncertainty", "architectures")
    return Table(head, cells)


def comparison_svg(rows: Sequence[Row], key: str, label: str) -> str:
    """Tau over the cost ``key`` ("flops" or "seconds"), on a logarithmic axis: an SVG that needs no style sheet."""
    shown = [row for row in rows if row["tau"] is not None]
    costs = [row[key] for row in shown if row[key] > 0]
    first, last = (math.floor(math.log10(min(costs))), math.ceil(math.log10(max(costs)))) if costs else (0, 1)
    last = max(last, first + 1)
    begin = _LEFT + _FREE * _WIDTH
    x = Scale(first, last, begin, _WIDTH - _RIGHT)
    y = Scale(min(-0.2, *(r["low"] for r in shown)) if shown else -0.2, 1.0, _HEIGHT - _BOTTOM, _TOP)
    at = [(x(math.log10(row[key])) if row[key] > 0 else _LEFT + 12, y(row["tau"])) for row in shown]
    parts = _axes(x, y, range(first, last + 1), label)
    for row, (px, py) in zip(shown, at, strict=True):
        colour = _COLOURS.get(row["family"], "#67625a")
        parts.append(
            f'<line x1="{px:.1f}" x2="{px:.1f}" y1="{y(row["low"]):.1f}" y2="{y(row["high"]):.1f}" stroke="{colour}" '
            'stroke-opacity=".35" stroke-width="2"/>'
        )
        tip = f"{row['name']}: tau {row['tau']:.3f}, {label} {short_number(row[key])}"
        parts.append(
            f'<circle cx="{px:.1f}" cy="{py:.1f}" r="4.5" fill="{colour}"><title>{escape(tip)}</title></circle>'
        )
    parts += _labels(shown, at)
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {_WIDTH:.0f} {_HEIGHT:.0f}" role="img" '
        f'font-family="sans-serif" font-size="11" fill="currentColor">{"".join(parts)}</svg>'
    )


def _axes(x: Callable[[float], float], y: Callable[[float], float], decades: range, label: str) -> list[str]:
    bottom, right = _HEIGHT - _BOTTOM, _WIDTH - _RIGHT
    parts = []
    for step in range(-10, 11, 2):
        py = y(step / 10)
        if _TOP <= py <= bottom:
            parts.append(
                f'<line x1="{_LEFT}" x2="{right}" y1="{py:.1f}" y2="{py:.1f}" stroke="currentColor" '
                f'stroke-opacity=".15"/><text x="{_LEFT - 6}" y="{py + 4:.1f}" text-anchor="end">{step / 10:.1f}</text>'
            )
    for decade in decades:
        parts.append(f'<text x="{x(decade):.1f}" y="{bottom + 16}" text-anchor="middle">1e{decade}</text>')
    parts.append(f'<text x="{_LEFT + 12}" y="{bottom + 16}" text-anchor="middle">0</text>')
    parts.append(f'<text x="{right}" y="{_HEIGHT - 6}" text-anchor="end">{escape(label)}</text>')
    parts.append(f'<line x1="{_LEFT}" x2="{right}" y1="{bottom}" y2="{bottom}" stroke="currentColor"/>')
    return parts


def _labels(rows: Sequence[Row], at: Sequence[tuple[float, float]]) -> list[str]:
    """Names right of the plot, best first, each joined to its point."""
    left, parts, last = _WIDTH - _RIGHT + 22, [], _TOP - _GAP
    order = sorted(range(len(rows)), key=lambda i: at[i][1])
    for place, i in enumerate(order):
        lowest = _HEIGHT - 4 - _GAP * (len(order) - 1 - place)
        last = min(max(at[i][1], last + _GAP), lowest)
        colour = _COLOURS.get(rows[i]["family"], "#67625a")
        parts.append(
            f'<path d="M{at[i][0]:.1f} {at[i][1]:.1f}L{left - 4} {last:.1f}" fill="none" stroke="{colour}" '
            f'stroke-opacity=".3"/><text x="{left}" y="{last + 4:.1f}" fill="{colour}">{escape(rows[i]["name"])}</text>'
        )
    return parts
