"""Numbers as a page shows them; the filters of its templates."""

from __future__ import annotations

from typing import Any

from nasfast.utils.numbers import ACCURACIES, metric_text, percent_text

_SIZES = ((1e9, "G"), (1e6, "M"), (1e3, "k"))
MISSING = "–"


def percent(value: float | None, digits: int = 2) -> str:
    return MISSING if value is None else percent_text(value, digits)


def fixed(value: float | None, digits: int = 2) -> str:
    return MISSING if value is None else f"{value:.{digits}f}"


def whole(value: float | None) -> str:
    return MISSING if value is None else f"{value:,.0f}"


def points(difference: float) -> str:
    """A difference of two accuracies, in points of percent."""
    return f"{100 * difference:+.2f} points".replace("-", "−")


def amount(value: float | None) -> str:
    """1234567 as 1.23 M."""
    if value is None:
        return MISSING
    for size, suffix in _SIZES:
        if abs(value) >= size:
            return f"{value / size:.3g} {suffix}"
    return f"{value:.0f}"


def short_number(value: float) -> str:
    """1234567 as 1.235M."""
    for size, suffix in _SIZES:
        if abs(value) >= size:
            return f"{value / size:.4g}{suffix}"
    return f"{value:.4g}"


def metric(value: Any, name: str) -> str:
    """A metric of an architecture, in a table of them."""
    if not isinstance(value, (int, float)):
        return MISSING
    return short_number(value) if abs(value) >= 1000 else metric_text(name, value)


def unit_of(name: str) -> str:
    """That of a chart of a metric."""
    return "percent" if name in ACCURACIES else "number"


def duration(seconds: float | None) -> str:
    if seconds is None:
        return MISSING
    if seconds < 60:
        return f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    if minutes < 60:
        return f"{minutes} min {rest} s"
    return f"{minutes // 60} h {minutes % 60} min"


def memory(value: float | None) -> str:
    return MISSING if value is None else f"{value / 2**20:,.0f} MiB"


def epochs(number: int) -> str:
    """1 as 1 epoch."""
    return f"{number} epoch{'s' if number != 1 else ''}"
