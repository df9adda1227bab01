"""What a network makes of codes that no row of its training has: what it makes of the average row."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from nasfast.kernels.table import TableLayout


@torch.no_grad()
def settle_unmet_codes(
    embedding: Tensor,
    layout: TableLayout,
    bins: NDArray[np.int16],
    fractions: NDArray[np.float32],
    train: Sequence[NDArray[np.int64]],
) -> None:
    """Set the weights of lookups that a fold has not met, which are still those drawn at the start, to their mean.

    The mean is that of the feature's values over the fold's rows, so that what was never met
    says nothing.

    Args:
        embedding: [G, R, D]; it is changed.
        bins, fractions: The encoded table [N, F].
        train: Of each fold, the rows that it was trained on.
    """
    first = 0
    for feature, (increments, lookups) in enumerate(zip(layout.increments, layout.lookups, strict=True)):
        own = slice(first, first + increments + lookups)
        first = own.stop
        for group, rows in enumerate(train):
            share, met = _average(bins[rows, feature], fractions[rows, feature], increments, lookups)
            unmet = torch.from_numpy(np.flatnonzero(~met) + increments)
            if len(unmet):
                weights = embedding[group, own]
                weights[unmet] = torch.from_numpy(share).to(weights.dtype) @ weights


def _average(
    bins: NDArray[np.int16], fractions: NDArray[np.float32], increments: int, lookups: int
) -> tuple[NDArray[np.float64], NDArray[np.bool_]]:
    """How much of each row of weights the average value has [increments + lookups]; which lookups are met."""
    counts = np.bincount(bins, minlength=increments + lookups).astype(np.float64)
    numbers = bins < increments
    partly = np.bincount(bins[numbers], fractions[numbers], minlength=increments)
    above = counts[:increments][::-1].cumsum()[::-1] - counts[:increments]
    share = np.concatenate([above + partly, counts[increments:]]) / max(len(bins), 1)
    return share, counts[increments:] > 0
