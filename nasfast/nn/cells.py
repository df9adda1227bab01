"""Search and network modules of the DARTS family in plain PyTorch.

The readable twin of the fused modules: no kernel of ours, the same submodule names (hence state_dict keys) as the
public DARTS and PC-DARTS code, parameters created in the same order (hence the same random numbers for the same
seed). Everything fused is tested and timed against this file.

DARTS: Liu, Simonyan, Yang, "DARTS: Differentiable Architecture Search", ICLR 2019.
PC-DARTS: Xu et al., "PC-DARTS: Partial Channel Connections for Memory-Efficient Architecture Search", ICLR 2020.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from nasfast.errors import ConfigError
from nasfast.kernels.primitives import PRIMITIVES
from nasfast.nn.primitives import FactorizedReduce, ReLUConvBN, build_primitive

PARTIAL_FRACTION = 4
"""PC-DARTS sends one channel in this many through the candidate operations."""


def _build_candidates(channels: int, stride: int, primitives: Sequence[str], affine: bool) -> nn.ModuleList:
    candidates = nn.ModuleList()
    for name in primitives:
        op = build_primitive(name, channels, stride, affine)
        if "pool" in name:
            op = nn.Sequential(op, nn.BatchNorm2d(channels, affine=affine))
        candidates.append(op)
    return candidates


class MixedOp(nn.Module):
    """The weighted sum of every candidate operation of one edge.

    Shape: x [N, C, H, W] and weights [K] to [N, C, ceil(H / stride), ceil(W / stride)].
    """

    def __init__(
        self, channels: int, stride: int, primitives: Sequence[str] = PRIMITIVES, affine: bool = False
    ) -> None:
        super().__init__()
        self.channels = channels
        self.stride = stride
        self.primitives = tuple(primitives)
        self.affine = affine
        self._ops = _build_candidates(channels, stride, primitives, affine)

    def forward(self, x: Tensor, weights: Tensor) -> Tensor:
        out = weights[0] * self._ops[0](x)
        for k in range(1, len(self._ops)):
            out = out + weights[k] * self._ops[k](x)
        return out


def channel_shuffle(x: Tensor, groups: int) -> Tensor:
    """Interleave the channels of `groups` equal groups: channel g * (C / groups) + i becomes i * groups + g."""
    n, c, h, w = x.shape
    return x.view(n, groups, c // groups, h, w).transpose(1, 2).reshape(n, c, h, w)


class PartialMixedOp(nn.Module):
    """PC-DARTS' mixed operation: the first quarter of the channels is mixed, the rest is passed on.

    With stride 2 the rest goes through a 2x2 max pool. The two are concatenated and shuffled in 4 groups.

    Shape: x [N, C, H, W] and weights [K] to [N, C, H / stride, W / stride].

    Raises:
        ConfigError: `channels` is not a multiple of 4.
    """

    def __init__(
        self, channels: int, stride: int, primitives: Sequence[str] = PRIMITIVES, affine: bool = False
    ) -> None:
        super().__init__()
        if channels % PARTIAL_FRACTION:
            raise ConfigError(f"partial channels: {channels} channels are not a multiple of {PARTIAL_FRACTION}")
        self.channels = channels
        self.stride = stride
        self.primitives = tuple(primitives)
        self.affine = affine
        self._ops = _build_candidates(channels // PARTIAL_FRACTION, stride, primitives, affine)
        self.mp = nn.MaxPool2d(2, 2)

    def forward(self, x: Tensor, weights: Tensor) -> Tensor:
        mixed_channels = x.shape[1] // PARTIAL_FRACTION
        taken, passed = x[:, :mixed_channels], x[:, mixed_channels:]
        out = weights[0] * self._ops[0](taken)
        for k in range(1, len(self._ops)):
            out = out + weights[k] * self._ops[k](taken)
        if self.stride == 2:
            passed = self.mp(passed)
        return channel_shuffle(torch.cat([out, passed], dim=1), PARTIAL_FRACTION)


class Cell(nn.Module):
    """One search cell: two inputs, `steps` nodes that each sum a mixed operation of every earlier state.

    Edges are ordered by node and, within a node, by source state; a reduction cell has stride 2 on the edges that
    leave the two inputs. The last `multiplier` states are concatenated.

    Where weights are one-hot, ``chosen`` [E] says which candidate of each edge is to be computed, alone.

    Shape: s0 [N, C_prev_prev, H0, W0], s1 [N, C_prev, H, W], weights [E, K] to [N, multiplier * C, H', W'].
    """

    mixed_op_class: type[MixedOp] | type[PartialMixedOp] = MixedOp

    def __init__(
        self,
        steps: int,
        multiplier: int,
        c_prev_prev: int,
        c_prev: int,
        channels: int,
        reduction: bool,
        reduction_prev: bool,
        primitives: Sequence[str] = PRIMITIVES,
        affine: bool = False,
    ) -> None:
        super().__init__()
        self.reduction = reduction
        self.preprocess0: nn.Module
        if reduction_prev:
            self.preprocess0 = FactorizedReduce(c_prev_prev, channels, affine=affine)
        else:
            self.preprocess0 = ReLUConvBN(c_prev_prev, channels, 1, 1, 0, affine=affine)
        self.preprocess1 = ReLUConvBN(c_prev, channels, 1, 1, 0, affine=affine)
        self._steps = steps
        self._multiplier = multiplier
        self._ops = nn.ModuleList(
            self.mixed_op_class(channels, 2 if reduction and source < 2 else 1, primitives, affine)
            for node in range(steps)
            for source in range(2 + node)
        )

    def forward(self, s0: Tensor, s1: Tensor, weights: Tensor, chosen: Sequence[int] | None = None) -> Tensor:
        return self._sum_edges(s0, s1, weights, None, chosen)

    def _sum_edges(
        self,
        s0: Tensor,
        s1: Tensor,
        weights: Tensor,
        edge_weights: Tensor | None,
        chosen: Sequence[int] | None = None,
    ) -> Tensor:
        states = [self.preprocess0(s0), self.preprocess1(s1)]
        first = 0
        for _ in range(self._steps):
            edges = []
            for source, state in enumerate(states):
                edge = first + source
                if chosen is None:
                    out = self._ops[edge](state, weights[edge])
                else:
                    out = weights[edge, chosen[edge]] * self._candidate(edge, chosen[edge])(state)
                edges.append(out if edge_weights is None else edge_weights[edge] * out)
            first += len(states)
            states.append(sum(edges[1:], start=edges[0]))
        return torch.cat(states[-self._multiplier :], dim=1)

    def _candidate(self, edge: int, k: int) -> nn.Module:
        return self.get_submodule(f"_ops.{edge}._ops.{k}")


class PartialCell(Cell):
    """PC-DARTS' search cell: partial channels and one more weight per edge (`edge_weights` [E])."""

    mixed_op_class = PartialMixedOp

    def forward(self, s0: Tensor, s1: Tensor, weights: Tensor, edge_weights: Tensor) -> Tensor:  # type: ignore[override]
        return self._sum_edges(s0, s1, weights, edge_weights)
