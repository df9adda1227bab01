"""From recognised banks to one call of the fused kernels."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from torch import Tensor

from nasfast.dropin.recognise import Bank
from nasfast.kernels import ops
from nasfast.nn.fused import ParamList, run_mixed
from nasfast.nn.fused_partial import PartialStages


@dataclass(frozen=True)
class Edge:
    """A bank between two states; sources count the graph's inputs first, then its nodes."""

    bank: Bank
    source: int
    node: int


def _specification(edge: Edge) -> ops.EdgeSpec:
    return ops.EdgeSpec(
        edge.source,
        edge.node,
        edge.bank.stride,
        tuple(candidate.primitive for candidate in edge.bank.candidates),
        norms=tuple(candidate.norm for candidate in edge.bank.candidates),
    )


class FusedGraph:
    """The description that the kernels take, and the modules their parameters live in."""

    def __init__(self, inputs: int, nodes: int, edges: Sequence[Edge]) -> None:
        self.spec = ops.MixedGraph(inputs, nodes, tuple(_specification(edge) for edge in edges))
        self.layers = ParamList(candidate.module for edge in edges for candidate in edge.bank.candidates)


def run_graph(graph: FusedGraph, states: Sequence[Tensor], weights: Tensor) -> Tensor:
    """The nodes of the graph side by side, [N, nodes * C, h, w]. States [N, C, H, W], weights [E, K]."""
    return run_mixed(graph.spec, states, weights, graph.layers, recompute=False)


def partial_stages(inputs: int, nodes: int, edges: Sequence[Edge], groups: int) -> PartialStages:
    """The same for a cell that mixes one of `groups` shares of its channels."""
    described = [
        (_specification(edge), edge.bank.name, [candidate.module for candidate in edge.bank.candidates])
        for edge in edges
    ]
    return PartialStages(inputs, nodes, described, edges[0].bank.channels, groups)
