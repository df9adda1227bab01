"""Line charts: their SVG, and what a read-out that follows the pointer says."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from dataclasses import dataclass
from html import escape

import numpy as np
from markupsafe import Markup

from nasfast.report.run_data import Row, number

_WIDTH, _HEIGHT = 430.0, 236.0
_LEFT, _RIGHT, _TOP, _BOTTOM = 44.0, 14.0, 12.0, 34.0
_TICK_CHAR = 7.4  # an upper bound of the advance of a digit of a tick label
_MARKERS_BELOW = 40  # points; a longer line is drawn without a dot on every point


@dataclass(frozen=True)
class Series:
    """One line: points (x, y), where a y of None is a gap. ``style`` is a CSS class: s1, s2, s3 or s4.

    Attributes:
        joined: Whether a line goes through the points.
        errors: (x, low, high): vertical lines.
        marked: Whether each point has a dot; None: where there are few.
    """

    name: str
    points: Sequence[tuple[float, float | None]]
    style: str
    dashed: bool = False
    joined: bool = True
    errors: Sequence[tuple[float, float, float]] = ()
    marked: bool | None = None

    @property
    def drawn(self) -> list[tuple[float, float]]:
        return [(x, y) for x, y in self.points if y is not None and math.isfinite(y)]


def series(rows: Sequence[Row], key: str, name: str, style: str, dashed: bool = False) -> Series:
    """The number ``key`` of the rows over their epochs."""
    points = [(x, number(row, key)) for row in rows if (x := number(row, "epoch")) is not None]
    return Series(name, points, style, dashed)


@dataclass(frozen=True)
class Chart:
    """A chart before it is drawn. ``unit`` is "percent" for fractions of one, else "number" or "count".

    Attributes:
        x_unit: Of the other axis; also "date" for days since 1970.
    """

    title: str
    series: Sequence[Series]
    unit: str = "number"
    x_label: str = "epoch"
    marks: Sequence[tuple[float, str]] = ()
    caption: str = ""
    x_unit: str = "count"

    @property
    def drawn(self) -> list[Series]:
        """Those that have a point."""
        return [series for series in self.series if series.drawn]

    @property
    def svg(self) -> Markup:
        """The drawing; of a chart with a point."""
        frame = _frame(self)
        return Markup(
            f'<svg viewBox="0 0 {_WIDTH:.0f} {_HEIGHT:.0f}" role="img"><title>{escape(self.title)}</title>'
            f"{_axes(self, frame)}{_lines(self, frame.x, frame.y)}"
            f'<line class="cursor" x1="0" x2="0" y1="{_TOP}" y2="{_HEIGHT - _BOTTOM}"/></svg>'
        )

    @property
    def readout(self) -> str:
        """JSON for the page's script: for every x, where it is and what to say."""
        values: dict[float, list[str]] = {}
        for series in self.drawn:
            for px, py in series.drawn:
                values.setdefault(px, []).append(f"{series.name} {format_value(py, self.unit)}")
        x = _frame(self).x
        return json.dumps(
            [
                [round(x(px), 1), f"{self.x_label} {format_value(px, self.x_unit)}: " + ", ".join(values[px])]
                for px in sorted(values)
            ]
        )


def nice_ticks(low: float, high: float, target: int = 5, whole: bool = False) -> list[float]:
    """Round values that cover [low, high], about ``target`` of them."""
    if high <= low:
        pad = max(abs(low) * 0.1, 1.0 if whole else 1e-3)
        low, high = low - (0 if whole else pad), high + pad
    raw = (high - low) / max(target - 1, 1)
    magnitude = 10.0 ** math.floor(math.log10(raw))
    step = next(m * magnitude for m in (1, 2, 2.5, 5, 10) if m * magnitude >= raw * 0.999)
    if whole:
        step = max(1.0, math.ceil(step))
    first, last = math.floor(low / step + 1e-9), math.ceil(high / step - 1e-9)
    return [index * step for index in range(first, last + 1)]


def format_value(value: float, unit: str) -> str:
    """A value for a read-out: percent of one, count, date, or a number with four digits."""
    if unit == "percent":
        return f"{100 * value:.4g} %"
    if unit == "date":
        return str(np.datetime64(round(value), "D"))
    if unit == "count" or value == int(value):
        return f"{value:.0f}"
    return f"{value:.4g}" if abs(value) < 1000 else f"{value:,.0f}"


def tick_labels(ticks: Sequence[float], unit: str) -> list[str]:
    """Labels of evenly spaced ticks, with as many decimals as tell them apart."""
    if unit == "date":
        return [format_value(tick, unit) for tick in ticks]
    factor, suffix = (100.0, "%") if unit == "percent" else (1.0, "")
    step = (ticks[1] - ticks[0]) * factor
    decimals = next((d for d in range(12) if abs(step * 10**d - round(step * 10**d)) < 1e-6), 12)
    return [f"{tick * factor:,.{decimals}f}{suffix}" for tick in ticks]


def _path(points: Sequence[tuple[float, float | None]], x: Scale, y: Scale) -> str:
    parts, pen_up = [], True
    for px, py in points:
        if py is None or not math.isfinite(py):
            pen_up = True
            continue
        parts.append(f"{'M' if pen_up else 'L'}{x(px):.1f} {y(py):.1f}")
        pen_up = False
    return "".join(parts)


@dataclass(frozen=True)
class Scale:
    """Maps [low, high] to [start, end] of a drawing."""

    low: float
    high: float
    start: float
    end: float

    def __call__(self, value: float) -> float:
        share = (value - self.low) / (self.high - self.low) if self.high > self.low else 0.5
        return self.start + share * (self.end - self.start)


@dataclass(frozen=True)
class _Frame:
    """Where a chart's values go, and its ticks."""

    x: Scale
    y: Scale
    x_ticks: Sequence[tuple[float, str]]
    y_ticks: Sequence[float]
    left: float


def _frame(chart: Chart) -> _Frame:
    points = [point for series in chart.drawn for point in series.drawn]
    errors = [error for series in chart.drawn for error in series.errors]
    xs, ys = [p[0] for p in points], [p[1] for p in points] + [y for _, *ends in errors for y in ends]
    y_ticks = nice_ticks(min(ys), max(ys), whole=chart.unit == "count")
    left = max(_LEFT, max(len(label) for label in tick_labels(y_ticks, chart.unit)) * _TICK_CHAR + 9)
    x = Scale(min(xs), max(xs), left + 8, _WIDTH - _RIGHT - 8)
    y = Scale(y_ticks[0], y_ticks[-1], _HEIGHT - _BOTTOM, _TOP)
    return _Frame(x, y, _x_ticks(x, chart.x_unit), y_ticks, left)


def _x_ticks(x: Scale, unit: str) -> list[tuple[float, str]]:
    """As many ticks as have room beside each other."""
    for count in (6, 5, 4, 3, 2):
        ticks = nice_ticks(x.low, x.high, count, whole=unit in ("count", "date"))
        labels = tick_labels(ticks, unit) if unit != "count" else [f"{tick:.0f}" for tick in ticks]
        shown = [(t, label) for t, label in zip(ticks, labels, strict=True) if x.low <= t <= x.high]
        room = abs(x(ticks[1]) - x(ticks[0]))
        if max(len(label) for label in labels) * _TICK_CHAR + 6 <= room:
            return shown
    return shown[:1]


def _axes(chart: Chart, frame: _Frame) -> str:
    x, left, right, bottom = frame.x, frame.left, _WIDTH - _RIGHT, _HEIGHT - _BOTTOM
    parts = []
    for tick, label in zip(frame.y_ticks, tick_labels(frame.y_ticks, chart.unit), strict=True):
        at = frame.y(tick)
        parts.append(f'<line class="grid" x1="{left:.1f}" x2="{right}" y1="{at:.1f}" y2="{at:.1f}"/>')
        parts.append(f'<text class="tick" x="{left - 7:.1f}" y="{at + 3.8:.1f}" text-anchor="end">{label}</text>')
    parts.append(f'<line class="axis" x1="{left:.1f}" x2="{right}" y1="{bottom}" y2="{bottom}"/>')
    for tick, label in frame.x_ticks:
        room = len(label) * _TICK_CHAR / 2
        at = min(x(tick), _WIDTH - room)
        parts.append(
            f'<line class="axis" x1="{x(tick):.1f}" x2="{x(tick):.1f}" y1="{bottom}" y2="{bottom + 4}"/>'
            f'<text class="tick" x="{at:.1f}" y="{bottom + 16}" text-anchor="middle">{label}</text>'
        )
    parts.append(f'<text class="tick" x="{right}" y="{_HEIGHT - 4}" text-anchor="end">{escape(chart.x_label)}</text>')
    return "".join(parts)


def _lines(chart: Chart, x: Scale, y: Scale) -> str:
    parts = []
    for at, text in chart.marks:
        parts.append(
            f'<g class="mark"><title>{escape(text)}</title><line x1="{x(at):.1f}" x2="{x(at):.1f}" y1="{_TOP}" '
            f'y2="{_HEIGHT - _BOTTOM}"/><circle cx="{x(at):.1f}" cy="{_TOP}" r="3.5"/></g>'
        )
    for series in chart.series:
        dash = " dashed" if series.dashed else ""
        for at, low, high in series.errors:
            parts.append(
                f'<line class="error {series.style}" x1="{x(at):.1f}" x2="{x(at):.1f}" y1="{y(low):.1f}" '
                f'y2="{y(high):.1f}"/>'
            )
        if series.joined:
            parts.append(f'<path class="line {series.style}{dash}" d="{_path(series.points, x, y)}"/>')
        marked = series.marked if series.marked is not None else len(series.drawn) <= _MARKERS_BELOW
        if marked or not series.joined:
            dots = "".join(f'<circle cx="{x(px):.1f}" cy="{y(py):.1f}" r="2.2"/>' for px, py in series.drawn)
            parts.append(f'<g class="dots {series.style}">{dots}</g>')
    return "".join(parts)
