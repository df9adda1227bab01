"""A scatter chart of architectures: one metric against another, with the front as a line through its points."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from html import escape

from markupsafe import Markup

from nasfast.report.curves import Scale, nice_ticks, tick_labels
from nasfast.report.formats import metric, short_number, unit_of

_WIDTH, _HEIGHT = 640.0, 330.0
_LEFT, _RIGHT, _TOP, _BOTTOM = 58.0, 18.0, 14.0, 40.0


@dataclass(frozen=True)
class Point:
    """One architecture: where it is, what to call it, and whether nothing dominates it."""

    x: float
    y: float
    name: str
    on_front: bool


@dataclass(frozen=True)
class Scatter:
    """A scatter chart of one point or more."""

    points: Sequence[Point]
    x_label: str
    y_label: str

    @property
    def title(self) -> str:
        return f"{self.y_label} against {self.x_label}"

    @property
    def front(self) -> list[Point]:
        """The points that nothing dominates, by x."""
        return sorted((p for p in self.points if p.on_front), key=lambda p: p.x)

    @property
    def svg(self) -> Markup:
        """The drawing."""
        xs, ys = [p.x for p in self.points], [p.y for p in self.points]
        x_ticks, y_ticks = nice_ticks(min(xs), max(xs)), nice_ticks(min(ys), max(ys))
        x = Scale(x_ticks[0], x_ticks[-1], _LEFT, _WIDTH - _RIGHT)
        y = Scale(y_ticks[0], y_ticks[-1], _HEIGHT - _BOTTOM, _TOP)
        parts = [*_axes(self, x, y, x_ticks, y_ticks), *_points(self, x, y)]
        return Markup(
            f'<svg viewBox="0 0 {_WIDTH:.0f} {_HEIGHT:.0f}" role="img"><title>{escape(self.title)}</title>'
            f"{''.join(parts)}</svg>"
        )


def _axes(chart: Scatter, x: Scale, y: Scale, x_ticks: Sequence[float], y_ticks: Sequence[float]) -> list[str]:
    parts = []
    for tick, text in zip(y_ticks, _labels(y_ticks, chart.y_label), strict=True):
        parts.append(f'<line class="grid" x1="{_LEFT}" x2="{_WIDTH - _RIGHT}" y1="{y(tick):.1f}" y2="{y(tick):.1f}"/>')
        parts.append(f'<text class="tick" x="{_LEFT - 7}" y="{y(tick) + 3.8:.1f}" text-anchor="end">{text}</text>')
    for place, (tick, text) in enumerate(zip(x_ticks, _labels(x_ticks, chart.x_label), strict=True)):
        anchor = "end" if place == len(x_ticks) - 1 else "middle"
        parts.append(
            f'<text class="tick" x="{x(tick):.1f}" y="{_HEIGHT - _BOTTOM + 16}" text-anchor="{anchor}">{text}</text>'
        )
    bottom = _HEIGHT - _BOTTOM
    parts.append(f'<line class="axis" x1="{_LEFT}" x2="{_WIDTH - _RIGHT}" y1="{bottom}" y2="{bottom}"/>')
    parts.append(
        f'<text class="tick" x="{_WIDTH - _RIGHT}" y="{_HEIGHT - 4}" text-anchor="end">{escape(chart.x_label)}</text>'
    )
    return parts


def _labels(ticks: Sequence[float], name: str) -> list[str]:
    unit = unit_of(name)
    return tick_labels(ticks, unit) if unit == "percent" else [short_number(tick) for tick in ticks]


def _points(chart: Scatter, x: Scale, y: Scale) -> list[str]:
    line = "".join(f"{'L' if i else 'M'}{x(p.x):.1f} {y(p.y):.1f}" for i, p in enumerate(chart.front))
    parts = [f'<path class="line s1" d="{line}"/>']
    for point in sorted(chart.points, key=lambda p: p.on_front):
        style = "front" if point.on_front else "rest"
        place = f"{chart.x_label} {metric(point.x, chart.x_label)}, {chart.y_label} {metric(point.y, chart.y_label)}"
        parts.append(
            f'<circle class="{style}" cx="{x(point.x):.1f}" cy="{y(point.y):.1f}" r="{3.6 if point.on_front else 2.2}">'
            f"<title>{escape(f'{point.name}: {place}')}</title></circle>"
        )
    return parts
