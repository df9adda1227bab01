"""The modules of `nasfast.reference` on the fused kernels: same constructors, parameters, names and results."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from nasfast import ops
from nasfast.errors import NasfastError
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
        out: list[Tensor] = []
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


def is_training(norms: Sequence[nn.BatchNorm2d], default: bool) -> bool:
    """The mode that all of a mixture's BatchNorms are in; one kernel call has one.

    Raises:
        NasfastError: some are frozen and some are not.
    """
    modes = {norm.training for norm in norms}
    if len(modes) > 1:
        raise NasfastError(
            "a fused mixture needs all its BatchNorms in one mode, but some are in train and some in eval mode; "
            "switch them together, or build the network with fused=False"
        )
    return modes.pop() if modes else default


def move_running_stats(norms: ParamList, used: Tensor, out: Tensor) -> None:
    """What BatchNorm does to its buffers in a training step.

    Raises:
        ValueError: a single value per channel, as torch.nn.BatchNorm2d.
    """
    count = out.shape[0] * out.shape[2] * out.shape[3]
    if count == 1:
        raise ValueError(f"Expected more than 1 value per channel when training, got an output of {tuple(out.shape)}")
    if count > 0:
        ops.update_running_stats_(
            used,
            norms.buffers("running_mean"),
            norms.buffers("running_var"),
            norms.buffers("num_batches_tracked"),
            momentum=norms.norms[0].momentum or 0.0,
            count=count,
        )


def run_mixed(
    graph: ops.MixedGraph,
    states: Sequence[Tensor],
    weights: Tensor,
    layers: ParamList,
    training: bool,
    recompute: bool,
) -> Tensor:
    """`ops.mixed_op` with the BatchNorm rules of torch: batch statistics and their running average when training.

    Args:
        training: for mixtures without any BatchNorm; the others follow their BatchNorms.
    """
    training = is_training(layers.norms, training)
    eps = layers.norms[0].eps if layers.norms else 1e-5
    stats = None if training else layers.running_stats()
    out, used = ops.mixed_op(states, weights, layers.params(), graph, stats=stats, eps=eps, recompute=recompute)
    if training and layers.norms:
        move_running_stats(layers, used, out)
    return out


def run_preprocess(layers: ParamList, x: Tensor, recompute: bool) -> Tensor:
    """`reference.ReLUConvBN` (1x1) or `reference.FactorizedReduce`, whichever the layers are of, as one kernel call."""
    norm = layers.norms[0]
    convs = [layer.weight for layer in layers.layers if isinstance(layer, nn.Conv2d)]
    affine = [norm.weight, norm.bias] if norm.affine else []
    stats = None if norm.training else layers.running_stats()
    out, used = ops.relu_conv_bn(x, convs, affine, stats=stats, eps=norm.eps, recompute=recompute)
    if norm.training:
        move_running_stats(layers, used, out)
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
        self._before = [ParamList([self.preprocess0]), ParamList([self.preprocess1])]
        edge = self._ops[0]
        self._graph = cell_graph(self._steps, 2 if self.reduction else 1, edge.primitives, edge.affine)  # type: ignore[arg-type]

    def forward(self, s0: Tensor, s1: Tensor, weights: Tensor) -> Tensor:
        states = [run_preprocess(p, s, self.recompute) for p, s in zip(self._before, (s0, s1), strict=True)]
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
