"""The modules of `nasfast.reference` on the fused kernels: same constructors, parameters, names and results."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from nasfast import ops
from nasfast.reference import Cell, MixedOp
from nasfast.spaces.genotype import INPUTS_PER_NODE


class ParamList:
    """Convolution weights and BatchNorms of candidate modules, in the order the kernels expect.

    Holds the modules, not their tensors: `.to(...)` and `load_state_dict` are seen.
    """

    def __init__(self, candidates: Iterable[nn.Module]) -> None:
        leaves = [m for c in candidates for m in c.modules() if isinstance(m, nn.Conv2d | nn.BatchNorm2d)]
        self.layers = leaves
        self.norms = [m for m in leaves if isinstance(m, nn.BatchNorm2d)]

    def params(self) -> list[Tensor]:
        out = []
        for layer in self.layers:
            values = layer._parameters
            weight, bias = values["weight"], values["bias"]
            if weight is not None:
                out.append(weight)
            if bias is not None:
                out.append(bias)
        return out

    def buffers(self, name: str) -> list[Tensor]:
        return [norm._buffers[name] for norm in self.norms]  # type: ignore[misc]

    def running_stats(self) -> Tensor | None:
        """[norms, 2, C] for evaluation; None where a mixture has no BatchNorm."""
        if not self.norms:
            return None
        flat = [t for norm in self.norms for t in (norm._buffers["running_mean"], norm._buffers["running_var"])]
        return torch.stack(flat).view(len(self.norms), 2, -1)  # type: ignore[arg-type]


def run_mixed(
    graph: ops.MixedGraph,
    states: Sequence[Tensor],
    weights: Tensor,
    layers: ParamList,
    training: bool,
    recompute: bool,
) -> Tensor:
    """`ops.mixed_op` with the BatchNorm rules of torch: batch statistics and their running average when training.

    Raises:
        ValueError: training on a single value per channel, as torch.nn.BatchNorm2d.
    """
    norms = layers.norms
    eps = norms[0].eps if norms else 1e-5
    stats = None if training else layers.running_stats()
    out, used = ops.mixed_op(states, weights, layers.params(), graph, stats=stats, eps=eps, recompute=recompute)
    if training and norms:
        count = out.shape[0] * out.shape[2] * out.shape[3]
        if count == 1:
            raise ValueError(f"Expected more than 1 value per channel when training, got states of {states[0].shape}")
        if count > 0:
            ops.update_running_stats_(
                used,
                layers.buffers("running_mean"),
                layers.buffers("running_var"),
                layers.buffers("num_batches_tracked"),
                momentum=norms[0].momentum or 0.0,
                count=count,
            )
    return out


class FusedMixedOp(MixedOp):
    """`reference.MixedOp` as one kernel call: forward(x [N, C, H, W], weights [K]) -> [N, C, h, w], channels_last."""

    def __init__(self, *args: Any, recompute: bool = False, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.recompute = recompute
        self._layers = ParamList(self._ops)
        self._graph = ops.MixedGraph(1, 1, (ops.EdgeSpec(0, 0, self.stride, self.primitives, self.affine),))

    def forward(self, x: Tensor, weights: Tensor) -> Tensor:
        return run_mixed(self._graph, [x], weights.unsqueeze(0), self._layers, self.training, self.recompute)


def cell_graph(
    steps: int, stride: int, primitives: tuple[str, ...], affine: bool, pool_norm: bool = True
) -> ops.MixedGraph:
    """The edges of a DARTS cell: node i takes the two inputs and every earlier node."""
    edges = tuple(
        ops.EdgeSpec(source, node, stride if source < INPUTS_PER_NODE else 1, primitives, affine, pool_norm)
        for node in range(steps)
        for source in range(INPUTS_PER_NODE + node)
    )
    return ops.MixedGraph(INPUTS_PER_NODE, steps, edges)


class FusedCell(Cell):
    """`reference.Cell` with all its edges in one kernel call."""

    def __init__(self, *args: Any, recompute: bool = False, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.recompute = recompute
        self._layers = ParamList(self._ops)
        edge = self._ops[0]
        self._graph = cell_graph(self._steps, 2 if self.reduction else 1, edge.primitives, edge.affine)  # type: ignore[arg-type]

    def forward(self, s0: Tensor, s1: Tensor, weights: Tensor) -> Tensor:
        states = [self.preprocess0(s0), self.preprocess1(s1)]
        nodes = run_mixed(self._graph, states, weights, self._layers, self.training, self.recompute)
        return self._concatenate(states, nodes)

    def _concatenate(self, states: list[Tensor], nodes: Tensor) -> Tensor:
        kept = self._multiplier
        if kept == self._steps:
            return nodes
        if kept < self._steps:
            channels = nodes.shape[1] // self._steps
            return nodes[:, (self._steps - kept) * channels :]
        return torch.cat([*states[self._steps - kept :], nodes], dim=1)
