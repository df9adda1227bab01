"""How networks read a prepared table: every value as an interval and the place in it, or as a code."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from nasfast.automl.prepare import FIRST_LEVEL, Preparation, Prepared
from nasfast.kernels.table import TableLayout

_NARROWEST = 1e-6
"""Of an interval, as a part of the larger of its ends: what is narrower float32 hardly tells."""


@dataclass(frozen=True)
class Encoding:
    """Intervals of numbers and codes of categories.

    Attributes:
        edges: float32 [intervals + 1] per number, rising; a number without a range has none.
        codes: How many codes each category has.
    """

    edges: tuple[NDArray[np.float32], ...]
    codes: tuple[int, ...]

    @classmethod
    def of(cls, prepared: Prepared, preparation: Preparation, bins: int) -> Encoding:
        """Intervals with about the same number of the rows in each, ``bins`` at most."""
        edges = tuple(_quantile_edges(prepared.numbers[:, i], bins) for i in range(prepared.numbers.shape[1]))
        return cls(edges, tuple(FIRST_LEVEL + len(source.levels) for source in preparation.codes))

    @property
    def layout(self) -> TableLayout:
        """Rows of weights per feature: one per interval and one for "missing" of a number, one per code."""
        intervals = tuple(max(len(edges) - 1, 0) for edges in self.edges)
        return TableLayout(
            increments=intervals + (0,) * len(self.codes), lookups=(1,) * len(self.edges) + tuple(self.codes)
        )

    def apply(self, prepared: Prepared) -> tuple[NDArray[np.int16], NDArray[np.float32]]:
        """Bins int16 [N, F] and fractions float32 [N, F] for :func:`nasfast.kernels.table.table_embedding`."""
        rows, numbers = prepared.numbers.shape
        bins = np.zeros((rows, numbers + len(self.codes)), np.int16)
        fractions = np.zeros(bins.shape, np.float32)
        for i, edges in enumerate(self.edges):
            bins[:, i], fractions[:, i] = _place(prepared.numbers[:, i], edges)
        bins[:, numbers:] = prepared.codes
        return bins, fractions


def _quantile_edges(values: NDArray[np.float32], bins: int) -> NDArray[np.float32]:
    known = np.sort(values[np.isfinite(values)])
    distinct = np.unique(known)
    if distinct.size < 2:
        return np.empty(0, np.float32)
    if distinct.size <= bins + 1:
        edges = distinct
    else:
        edges = np.unique(known[np.linspace(0, known.size - 1, bins + 1).astype(np.int64)])
    kept = [edges[0]]
    for edge in edges[1:]:
        low, high = float(kept[-1]), float(edge)
        if high - low > _NARROWEST * max(abs(low), abs(high)):
            kept.append(edge)
    return np.asarray(kept, np.float32)


def _place(values: NDArray[np.float32], edges: NDArray[np.float32]) -> tuple[NDArray[np.int16], NDArray[np.float32]]:
    intervals = max(len(edges) - 1, 0)
    missing = np.isnan(values)
    if intervals == 0:  # one value in training: it and any other add nothing but that they are there
        return np.zeros(len(values), np.int16), np.zeros(len(values), np.float32)
    inside = np.clip(np.where(missing, edges[0], values), edges[0], edges[-1])
    bins = np.clip(np.searchsorted(edges, inside, side="right") - 1, 0, intervals - 1)
    fractions = (inside - edges[bins]) / (edges[bins + 1] - edges[bins])
    return (
        np.where(missing, intervals, bins).astype(np.int16),
        np.where(missing, 0, fractions).astype(np.float32),
    )
