"""Whether predictions mean what they say: predicted against observed in bins of as many rows."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from nasfast.automl.diagnosis.numbers import short
from nasfast.automl.problem import Array

_BINS = 10


def equal_bins(values: Array, bins: int = _BINS) -> list[NDArray[np.int64]]:
    """Rows in bins of about equal numbers, by rising value; equal values share a bin."""
    order = np.argsort(values, kind="stable")
    ordered = values[order]
    cuts = np.searchsorted(ordered, ordered[np.arange(1, bins) * len(values) // bins])
    return [part for part in np.split(order, np.unique(cuts)) if len(part)]


def compared(predicted: Array, observed: Array) -> list[dict[str, Any]]:
    """In bins of the prediction: its mean, the observed mean with its standard error, and the rows."""
    rows = []
    for part in equal_bins(predicted):
        seen = observed[part]
        error = float(seen.std(ddof=1) / np.sqrt(len(part))) if len(part) > 1 else float("nan")
        rows.append(
            {
                "predicted": short(predicted[part].mean()),
                "observed": short(seen.mean()),
                "error": short(error),
                "rows": len(part),
            }
        )
    return rows


def calibration(y: Array, p: Array) -> dict[str, Any]:
    """Of the second of two classes, or of more classes of the one that is predicted.

    ``expected_calibration_error`` is above 0 for a perfectly calibrated model too, as bins are finite; about how much,
    ``by_chance`` says.
    """
    chosen = p.argmax(axis=1)
    binary = p.shape[1] == 2
    predicted = p[:, 1] if binary else p.max(axis=1)
    observed = (y == 1 if binary else y == chosen).astype(np.float64)
    bins = equal_bins(predicted)
    gaps = [abs(predicted[b].mean() - observed[b].mean()) for b in bins]
    chance = [np.sqrt(2 / np.pi * (predicted[b] * (1 - predicted[b])).mean() / len(b)) for b in bins]
    shares = [len(b) / len(y) for b in bins]
    truth = np.eye(p.shape[1])[y.astype(np.int64)]
    squares = (p - truth) ** 2
    return {
        "of": "second class" if binary else "predicted class",
        "bins": compared(predicted, observed),
        "brier": short(squares[:, 1].mean() if binary else squares.sum(axis=1).mean()),
        "expected_calibration_error": short(np.dot(gaps, shares)),
        "by_chance": short(np.dot(chance, shares)),
    }
