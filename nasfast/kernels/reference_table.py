"""A table embedding in plain PyTorch: the readable twin of `nasfast.kernels.table`, for every device."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from nasfast.errors import NasfastError
from nasfast.kernels.table_layout import TableLayout

_OP = "table_embedding"
_REAL = (torch.float32, torch.float64)


def embed_table(
    weights: Tensor, bins: Tensor, fractions: Tensor, scales: Tensor, layout: TableLayout, rows: Tensor | None = None
) -> Tensor:
    """What :func:`nasfast.kernels.table.table_embedding` computes; it can also be differentiated twice."""
    device = weights.device.type
    if torch.amp.is_autocast_available(device) and torch.is_autocast_enabled(device):
        weights, scales = (t if t.dtype == torch.float64 else t.float() for t in (weights, scales))
        with torch.autocast(device, enabled=False):
            return _embed(weights, bins, fractions, scales, layout, rows)
    return _embed(weights, bins, fractions, scales, layout, rows)


def _embed(
    weights: Tensor, bins: Tensor, fractions: Tensor, scales: Tensor, layout: TableLayout, rows: Tensor | None
) -> Tensor:
    _check(weights, bins, fractions, scales, layout, rows)
    base, slope = _tables(weights, layout)
    at, fraction = _codes(bins, fractions, layout, rows)
    group = torch.arange(len(weights), device=weights.device)[:, None, None]
    values = base[group, at] + fraction.to(weights.dtype).unsqueeze(-1) * slope[group, at]
    return torch.einsum("gmf,gbfd->gbmd", scales, values)


def _tables(weights: Tensor, layout: TableLayout) -> tuple[Tensor, Tensor]:
    """Of every row: the value where it begins, and what a whole fraction of it adds."""
    base, slope = [], []
    for number, feature in zip(layout.increments, weights.split(layout.sizes, dim=1), strict=True):
        increments, lookups = feature[:, :number], feature[:, number:]
        before = F.pad(increments.cumsum(1), (0, 0, 1, 0))[:, :-1]
        base += [before, lookups]
        slope += [increments, torch.zeros_like(lookups)]
    return torch.cat(base, 1), torch.cat(slope, 1)


def _codes(bins: Tensor, fractions: Tensor, layout: TableLayout, rows: Tensor | None) -> tuple[Tensor, Tensor]:
    """Rows of the tables and fractions [G or 1, B, F]."""
    if rows is not None:
        bins, fractions = bins[rows], fractions[rows]
    if bins.dim() == 2:
        bins, fractions = bins.unsqueeze(0), fractions.unsqueeze(0)
    increments, sizes, offsets = torch.tensor(
        [layout.increments, layout.sizes, layout.offsets], device=bins.device
    ).unbind()
    _require_within("bins", bins, sizes)
    return offsets + bins, torch.where(bins < increments, fractions, torch.zeros_like(fractions))


def _check(
    weights: Tensor, bins: Tensor, fractions: Tensor, scales: Tensor, layout: TableLayout, rows: Tensor | None
) -> None:
    groups, features = weights.shape[0] if weights.dim() else 0, layout.features
    _require(
        "weights",
        weights,
        weights.dtype in _REAL and weights.dim() == 3 and weights.shape[1] == layout.rows,
        f"float32 or float64 [groups, {layout.rows}, width], as the layout has it",
    )
    _require(
        "bins",
        bins,
        bins.dtype == torch.int16 and bins.dim() == 2 and bins.shape[1] == features and bins.is_contiguous(),
        f"contiguous int16 [rows, {features}], a column for each feature",
    )
    _require(
        "fractions",
        fractions,
        fractions.dtype in _REAL and fractions.shape == bins.shape and fractions.is_contiguous(),
        f"contiguous float32 or float64 {list(bins.shape)}, as the bins",
    )
    if fractions.requires_grad:
        raise NasfastError(f"{_OP}: fractions have no gradient, and may not require one")
    _require(
        "scales",
        scales,
        scales.dtype == weights.dtype and scales.dim() == 3 and scales.shape[::2] == (groups, features),
        f"{_name(weights.dtype)} [{groups}, members, {features}], as the weights",
    )
    if rows is not None:
        fits = rows.dim() == 1 or (rows.dim() == 2 and len(rows) == groups)
        _require("rows", rows, rows.dtype == torch.int64 and fits, f"int64 [batch] or [{groups}, batch]")
        _require_within("rows", rows, torch.tensor(len(bins), device=rows.device))


def _require(name: str, t: Tensor, fits: bool, expected: str) -> None:
    if not fits:
        raise NasfastError(
            f"{_OP}: {name} must be {expected}, got {_name(t.dtype)} {list(t.shape)} with strides {list(t.stride())}"
        )


def _require_within(name: str, values: Tensor, ends: Tensor) -> None:
    """Torch itself would count negative numbers from the end."""
    if values.is_meta:
        return
    outside = (values < 0) | (values >= ends)
    if bool(outside.any()):
        most, got = ends.expand_as(values)[outside][0] - 1, values[outside][0]
        raise IndexError(f"{_OP}: {name} must be 0 to {int(most)}, got {int(got)}")


def _name(dtype: torch.dtype) -> str:
    return str(dtype).removeprefix("torch.")
