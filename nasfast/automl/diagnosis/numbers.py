"""Numbers as they are kept: short, and never one that JSON lacks."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import numpy as np


def short(value: Any) -> float | None:
    """A number with six digits; None for what is not finite."""
    return float(f"{float(value):.6g}") if np.isfinite(value) else None


def shorts(values: Iterable[Any]) -> list[float | None]:
    """Each with six digits."""
    return [short(value) for value in values]
