"""The table embedding: a typed function over `torch.ops.nasfast.table_embedding`, see `nasfast.kernels.ops`."""

from __future__ import annotations

import torch
from torch import Tensor

from nasfast.errors import NasfastError
from nasfast.kernels._library import require_ops
from nasfast.kernels.reference_table import embed_table
from nasfast.kernels.table_layout import TableLayout

__all__ = ["TableLayout", "table_embedding"]


def table_embedding(
    weights: Tensor, bins: Tensor, fractions: Tensor, scales: Tensor, layout: TableLayout, rows: Tensor | None = None
) -> Tensor:
    """Embeddings of a table's columns and the first linear layer, for several groups and their members at once.

    Each feature is a piecewise-linear curve (numbers) or a lookup (categories, missing values) with values in the width
    of the layer. A number is encoded once for the whole training as its interval and the fraction of it; a call then
    looks two rows up instead of multiplying with the encoded vector. Gradients are those of weights and scales.

    On the CPU this is one op for forward and one for backward, which keeps nothing but its inputs and gives the same
    bits for any number of threads. Under autocast it stays in float32. Tensors that are not on the CPU go through the
    twin in plain PyTorch.

    Args:
        weights: [G, R, D], float32 or float64: of each group, the rows of all features, as `layout` has them.
        bins: int16 [N, F], contiguous: of each row of the table, the interval of each feature, or a lookup, counted
            after the feature's increments.
        fractions: float32 or float64 [N, F], contiguous: of the interval; not read for lookups.
        scales: [G, M, F], of each member of a group, and of the weights' dtype.
        layout: rows of each feature.
        rows: int64 [G, B] or, for all groups, [B]: which rows of the table; None: all.

    Returns:
        [G, B, M, D].

    Raises:
        IndexError: a bin or a row is out of range.
        RuntimeError: another argument does not fit; the message names it.

    Equivalent to::

        nasfast.kernels.reference_table.embed_table(weights, bins, fractions, scales, layout, rows)

    Gorishniy, Rubachev, Babenko, "On Embeddings for Numerical Features in Tabular Deep Learning", NeurIPS 2022;
    Gorishniy, Kotelnikov, Babenko, "TabM: Advancing Tabular Deep Learning with Parameter-Efficient Ensembling",
    ICLR 2025.
    """
    for name, t in {"bins": bins, "fractions": fractions, "scales": scales, "rows": rows}.items():
        if t is not None and t.device != weights.device:
            raise NasfastError(f"table_embedding: {name} must be on {weights.device}, as the weights, got {t.device}")
    if weights.device.type != "cpu":
        return embed_table(weights, bins, fractions, scales, layout, rows)
    require_ops()
    return torch.ops.nasfast.table_embedding(weights, bins, fractions, scales, rows, layout.increments, layout.lookups)
