"""Numbers as people read them: accuracies in percent, everything else as it is."""

from __future__ import annotations

ACCURACIES = frozenset({"test_accuracy", "valid_accuracy"})
"""Metrics that are accuracies, by name: fractions from 0 to 1 everywhere, in percent only where they are printed."""

_MOST_WHOLE = 1e15  # beyond, a float has no digits left for units


def percent_text(share: float, digits: int = 2) -> str:
    """0.9321 as 93.21 %."""
    return f"{100 * share:.{digits}f} %"


def number_text(value: float) -> str:
    """A whole number in full; any other with six digits, so that accuracies close to each other stay apart."""
    if abs(value) < _MOST_WHOLE and float(value).is_integer():
        return f"{value:,.0f}"
    return f"{value:.6g}"


def metric_text(name: str, value: float) -> str:
    """A metric of an architecture: in percent where its name says that it is an accuracy."""
    return percent_text(value) if name in ACCURACIES else number_text(value)
