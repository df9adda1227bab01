"""PC-DARTS' partial channels on the fused kernels: `PartialMixedOp` and `PartialCell` of `nasfast.nn.cells`.

The shuffle behind each node moves channels between the share that is mixed and the share that is passed on, so a cell
is no single graph. It runs in stages instead: once a state is known, everything that leaves it is computed at once,
for all nodes it flows into. Its relu, pools and their statistics are then computed once, and so is the max pool of
the passed share.

Xu et al., "PC-DARTS: Partial Channel Connections for Memory-Efficient Architecture Search", ICLR 2020.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from nasfast.kernels import ops
from nasfast.kernels.primitives import INPUTS_PER_NODE
from nasfast.nn.cells import PARTIAL_FRACTION, PartialCell, PartialMixedOp
from nasfast.nn.fused import Fused, ParamList, one_edge, run_mixed, run_preprocess


class FusedPartialMixedOp(Fused, PartialMixedOp):
    """`reference.PartialMixedOp` with its candidates in one kernel call."""

    replaces = ("_ops", "mp")

    def _link(self) -> None:
        self._layers = self._layers_of("_ops")
        self._graph = one_edge(self)

    def forward(self, x: Tensor, weights: Tensor) -> Tensor:
        self._current()
        taken = x[:, : self.channels // PARTIAL_FRACTION]
        mixed = run_mixed(self._graph, [taken], weights.unsqueeze(0), self._layers, self.recompute)
        passed = pass_on(x, taken.shape[1], self.stride)
        return ops.shuffle_channels(mixed, passed, PARTIAL_FRACTION)


def pass_on(x: Tensor, taken: int, stride: int) -> Tensor:
    """The channels of `x` behind the first `taken`, at the size of the result."""
    rest = x[:, taken:]
    return rest if stride == 1 else F.max_pool2d(rest, 2, 2)


StageEdge = tuple[ops.EdgeSpec, str, Sequence[nn.Module]]
"""An edge's place in the cell, the name of its bank of candidates, and the candidates."""


@dataclass(frozen=True)
class Stage:
    """Everything that leaves some states, known together and read with one stride, as one graph.

    Attributes:
        sources, nodes: states and nodes of the cell, in the order in which the graph counts them.
        edges: the cell's edges in the order of the graph's.
        places: per edge, its place in a [nodes, sources] matrix.
    """

    sources: tuple[int, ...]
    nodes: tuple[int, ...]
    edges: Tensor
    places: Tensor
    stride: int
    graph: ops.MixedGraph
    layers: ParamList


class PartialStages:
    """The stages of a cell, and their run.

    Args:
        inputs, nodes: states given, and nodes to compute; node i is state inputs + i.
        channels: how many of a state's channels are mixed; groups: a state has groups * channels.
    """

    def __init__(
        self,
        inputs: int,
        nodes: int,
        edges: Sequence[StageEdge],
        channels: int,
        groups: int,
    ) -> None:
        self.inputs = inputs
        self.nodes = nodes
        self.channels = channels
        self.groups = groups
        ready: list[tuple[int, ...]] = [tuple(range(inputs)), *((inputs + node,) for node in range(nodes))]
        self.stages = [
            [
                _build_stage(edges, chosen, stride)
                for stride in (1, 2)
                if (chosen := [e for e, (s, _, _) in enumerate(edges) if s.source in states and s.stride == stride])
            ]
            for states in ready
        ]

    def run(
        self,
        states: Sequence[Tensor],
        weights: Tensor,
        edge_weights: Tensor | None,
        recompute: bool,
    ) -> list[Tensor]:
        """The nodes [N, C, h, w] in channels_last, from states [N, C, H, W], weights [E, K] and edge weights [E]."""
        if edge_weights is None:
            edge_weights = weights.new_ones(weights.shape[0])
        scaled = weights * edge_weights.unsqueeze(1)
        known = list(states)
        mixed: list[Tensor | None] = [None] * self.nodes
        passed: list[Tensor | None] = [None] * self.nodes
        for node in range(self.nodes + 1):
            for stage in self.stages[node]:
                read = [known[source] for source in stage.sources]
                taken = [x[:, : self.channels] for x in read]
                blocks = run_mixed(stage.graph, taken, scaled[stage.edges], stage.layers, recompute).split(
                    self.channels, dim=1
                )
                rests = self._pass_on(read, edge_weights, stage)
                for target, block, rest in zip(stage.nodes, blocks, rests, strict=True):
                    mixed[target] = _plus(mixed[target], block)
                    passed[target] = _plus(passed[target], rest)
            if node < self.nodes:
                known.append(self._join(mixed[node], passed[node]))
        return known[len(states) :]

    def _pass_on(self, read: Sequence[Tensor], edge_weights: Tensor, stage: Stage) -> list[Tensor]:
        """Per node of the stage, the weighted sum of the passed channels, [N, h, w, C']."""
        rests = [pass_on(x, self.channels, stage.stride).permute(0, 2, 3, 1) for x in read]
        size = len(stage.nodes) * len(stage.sources)
        factors = edge_weights.new_zeros(size).index_add(0, stage.places, edge_weights[stage.edges])
        factors = factors.view(len(stage.nodes), len(stage.sources)).to(rests[0].dtype)
        flat = torch.stack(rests).flatten(1)
        return list((factors @ flat).view(len(stage.nodes), *rests[0].shape))

    def _join(self, mixed: Tensor | None, passed: Tensor | None) -> Tensor:
        assert mixed is not None
        assert passed is not None
        return ops.shuffle_channels(mixed, passed.permute(0, 3, 1, 2), self.groups)


def _plus(total: Tensor | None, part: Tensor) -> Tensor:
    return part if total is None else total + part


def _build_stage(edges: Sequence[StageEdge], chosen: Sequence[int], stride: int) -> Stage:
    specs = [edges[e][0] for e in chosen]
    sources = tuple(sorted({spec.source for spec in specs}))
    nodes = tuple(sorted({spec.node for spec in specs}))
    local = tuple(
        ops.EdgeSpec(
            sources.index(spec.source),
            nodes.index(spec.node),
            stride,
            spec.primitives,
            spec.affine,
            spec.pool_norm,
            spec.norms,
        )
        for spec in specs
    )
    places = [edge.node * len(sources) + edge.source for edge in local]
    return Stage(
        sources,
        nodes,
        torch.tensor(chosen),
        torch.tensor(places),
        stride,
        ops.MixedGraph(len(sources), len(nodes), local),
        ParamList(
            (module for e in chosen for module in edges[e][2]),
            (f"{edges[e][1]}.{k}" for e in chosen for k in range(len(edges[e][2]))),
        ),
    )


class FusedPartialCell(Fused, PartialCell):
    """`reference.PartialCell` on the fused kernels, everything that leaves a state at once."""

    replaces = ("preprocess0", "preprocess1", "_ops")

    def _link(self) -> None:
        self._before = [self._layers_of(name) for name in ("preprocess0", "preprocess1")]
        edges: list[StageEdge] = []
        for node in range(self._steps):
            for source in range(INPUTS_PER_NODE + node):
                op = self._ops[len(edges)]
                assert isinstance(op, PartialMixedOp)
                spec = ops.EdgeSpec(source, node, op.stride, op.primitives, op.affine)
                edges.append((spec, f"_ops.{len(edges)}._ops", list(op._ops)))
                taken = op.channels // PARTIAL_FRACTION
        self._stages = PartialStages(INPUTS_PER_NODE, self._steps, edges, taken, PARTIAL_FRACTION)

    def forward(self, s0: Tensor, s1: Tensor, weights: Tensor, edge_weights: Tensor) -> Tensor:  # type: ignore[override]
        self._current()
        states = [run_preprocess(p, s, self.recompute) for p, s in zip(self._before, (s0, s1), strict=True)]
        nodes = self._stages.run(states, weights, edge_weights, self.recompute)
        return torch.cat([*states, *nodes][-self._multiplier :], dim=1)
