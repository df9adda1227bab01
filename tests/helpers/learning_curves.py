"""Real learning curves for tests, and ones whose truth is known."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from tests.helpers.paths import GOLDEN

SLICE = GOLDEN / "learning_curves_slice.npz"


def naap(test: bool) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Curves [K, 90] and features [K, 8] of NAAP-440."""
    with np.load(SLICE, allow_pickle=False) as file:
        rows = file["is_test"].astype(bool) == test
        return file["test_acc"][rows].astype(float), file["features"][rows].astype(float)


def saturating(count: int, last: int, noise: float, seed: int) -> NDArray[np.float64]:
    """Power laws with noise: [count, last]."""
    generator = np.random.default_rng(seed)
    end = generator.uniform(0.5, 0.95, (count, 1))
    gain = generator.uniform(0.2, 0.5, (count, 1))
    alpha = generator.uniform(0.3, 1.5, (count, 1))
    times = np.arange(1.0, last + 1)
    return end - gain * times**-alpha + noise * generator.standard_normal((count, last))
