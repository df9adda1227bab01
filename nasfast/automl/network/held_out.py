"""Predictions of rows by the network of the fold that held them out."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray

from nasfast.automl.network.network import TableNetwork
from nasfast.automl.network.training import member_probabilities
from nasfast.automl.problem import Array
from nasfast.automl.task import Task

_ROWS = 4096  # of a fold at a time


@torch.no_grad()
def predict_held_out(
    network: TableNetwork,
    task: Task,
    bins: NDArray[np.int16],
    fractions: NDArray[np.float32],
    folds: Sequence[NDArray[np.int64]],
) -> Array:
    """Predictions [N, outputs] of an encoded table (standardised where it is a number).

    Args:
        folds: Of each group of the network, which rows are predicted by it; each row is in one.
    """
    found = np.full((len(bins), task.outputs), np.nan)
    b, f = torch.from_numpy(bins), torch.from_numpy(fractions)
    longest = max(len(rows) for rows in folds)
    # All groups are computed at a time: shorter folds are filled with rows that nobody reads.
    padded = torch.from_numpy(np.stack([np.resize(rows, longest) for rows in folds]))
    parts = [member_probabilities(network(b, f, rows.contiguous()), task) for rows in padded.split(_ROWS, dim=1)]
    for rows, predicted in zip(folds, torch.cat(parts, dim=1).double().numpy(), strict=True):
        found[rows] = predicted[: len(rows)]
    return found
