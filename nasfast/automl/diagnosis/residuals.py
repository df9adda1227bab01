"""Of numbers: predicted against true, and how the errors are spread."""

from __future__ import annotations

from typing import Any

import numpy as np

from nasfast.automl.diagnosis.calibration import compared
from nasfast.automl.diagnosis.numbers import short, shorts
from nasfast.automl.problem import Array

MOST_POINTS = 300
_BARS = 24
_INSIDE = (0.005, 0.995)  # quantiles that the histogram spans; what is beyond counts in the outermost bars


def residuals(y: Array, predicted: Array, seed: int) -> dict[str, Any]:
    """Errors are true minus predicted; points [predicted, true] are drawn where there are many."""
    errors = y - predicted
    drawn = np.sort(np.random.default_rng([seed, 21]).permutation(len(y))[:MOST_POINTS])
    low, high = np.quantile(errors, _INSIDE)
    edges = np.linspace(low, high, _BARS + 1) if high > low else np.array([low - 0.5, low + 0.5])
    counts = np.histogram(np.clip(errors, edges[0], edges[-1]), edges)[0]
    spread = float(((y - y.mean()) ** 2).mean())
    size = np.abs(errors)
    return {
        "points": [shorts(point) for point in zip(predicted[drawn], y[drawn], strict=True)],
        "bins": compared(predicted, y),
        "edges": shorts(edges),
        "counts": counts.tolist(),
        "bias": short(errors.mean()),
        "rmse": short(np.sqrt((errors**2).mean())),
        "mae": short(size.mean()),
        "r2": short(1 - (errors**2).mean() / spread if spread else np.nan),
        "half_within": short(np.quantile(size, 0.5)),
        "nine_tenths_within": short(np.quantile(size, 0.9)),
    }
