"""A scatter chart of architectures: one metric against another, with the front as a line through its points."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from html import escape

from nasfast.report.curves import Scale, format_value, nice_ticks

_WIDTH, _HEIGHT = 640.0, 330.0
_LEFT, _RIGHT, _TOP, _BOTTOM = 58.0, 18.0, 14.0, 40.0


@dataclass(frozen=True)
class Point:
    """One architecture: where it is, what to call it, and whether nothing dominates it."""

    x: float
    y: float
    name: str
    on_front: bool


def short_number(value: float) -> str:
    """1234567 as 1.235M."""
    for size, suffix in ((1e9, "G"), (1e6, "M"), (1e3, "k")):
        if abs(value) >= size:
            return f"{value / size:.4g}{suffix}"
    return f"{value:.4g}"


def scatter_chart(points: Sequence[Point], x_label: str, y_label: str) -> str:
    """The chart as an HTML figure; "" without points."""
    if not points:
        return ""
    xs, ys = [p.x for p in points], [p.y for p in points]
    x_ticks, y_ticks = nice_ticks(min(xs), max(xs)), nice_ticks(min(ys), max(ys))
    x = Scale(x_ticks[0], x_ticks[-1], _LEFT, _WIDTH - _RIGHT)
    y = Scale(y_ticks[0], y_ticks[-1], _HEIGHT - _BOTTOM, _TOP)
    parts = []
    for tick in y_ticks:
        parts.append(f'<line class="grid" x1="{_LEFT}" x2="{_WIDTH - _RIGHT}" y1="{y(tick):.1f}" y2="{y(tick):.1f}"/>')
        parts.append(
            f'<text class="tick" x="{_LEFT - 7}" y="{y(tick) + 3.8:.1f}" text-anchor="end">{short_number(tick)}</text>'
        )
    for place, tick in enumerate(x_ticks):
        anchor = "end" if place == len(x_ticks) - 1 else "middle"
        parts.append(
            f'<text class="tick" x="{x(tick):.1f}" y="{_HEIGHT - _BOTTOM + 16}" text-anchor="{anchor}">'
            f"{short_number(tick)}</text>"
        )
    bottom = _HEIGHT - _BOTTOM
    parts.append(f'<line class="axis" x1="{_LEFT}" x2="{_WIDTH - _RIGHT}" y1="{bottom}" y2="{bottom}"/>')
    parts.append(
        f'<text class="tick" x="{_WIDTH - _RIGHT}" y="{_HEIGHT - 4}" text-anchor="end">{escape(x_label)}</text>'
    )
    front = sorted((p for p in points if p.on_front), key=lambda p: p.x)
    line = "".join(f"{'L' if i else 'M'}{x(p.x):.1f} {y(p.y):.1f}" for i, p in enumerate(front))
    parts.append(f'<path class="line s1" d="{line}"/>')
    for point in sorted(points, key=lambda p: p.on_front):
        style = "front" if point.on_front else "rest"
        text = f"{point.name}: {x_label} {short_number(point.x)}, {y_label} {format_value(point.y, 'number')}"
        parts.append(
            f'<circle class="{style}" cx="{x(point.x):.1f}" cy="{y(point.y):.1f}" r="{3.6 if point.on_front else 2.2}">'
            f"<title>{escape(text)}</title></circle>"
        )
    title = f"{y_label} against {x_label}"
    return (
        f'<figure class="chart scatter"><h3>{escape(title)}</h3>'
        f'<svg viewBox="0 0 {_WIDTH:.0f} {_HEIGHT:.0f}" role="img"><title>{escape(title)}</title>{"".join(parts)}</svg>'
        f'<p class="caption">{len(points)} architectures; the line joins the {len(front)} that no other one beats in '
        "both.</p></figure>"
    )


SCATTER_CSS = (
    ".scatter,.progress{max-width:820px}.scatter .rest{fill:var(--soft);opacity:.55}"
    ".scatter .front{fill:var(--a);stroke:var(--paper);stroke-width:1}"
)
