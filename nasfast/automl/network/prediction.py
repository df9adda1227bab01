"""What networks of folds and their members predict: of any rows, and of those that each fold held out."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from nasfast.automl.network.network import TableNetwork
from nasfast.automl.problem import Array
from nasfast.automl.task import Task

_ROWS = 4096  # at a time


def member_probabilities(out: Tensor, task: Task) -> Tensor:
    """Mean over members of what outputs [G, M, B, logits] say: [G, B, outputs]."""
    if task.kind == "multiclass":
        return out.softmax(-1).mean(1)
    if task.kind == "binary":
        p = out.sigmoid().mean(1)
        return torch.cat([1 - p, p], -1)
    return out.mean(1)


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


def predict_rows(network: TableNetwork, task: Task, bins: NDArray[np.int16], fractions: NDArray[np.float32]) -> Array:
    """Predictions [N, outputs] of every row, the mean of folds and members (standardised where it is a number)."""
    total = []
    with torch.no_grad():
        for b, f in zip(torch.from_numpy(bins).split(_ROWS), torch.from_numpy(fractions).split(_ROWS), strict=True):
            total.append(member_probabilities(network(b, f, None), task).mean(0))
    return torch.cat(total).double().numpy() if total else np.empty((0, task.outputs))
