"""The network of an architecture that grew out of another one's."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from typing import Any

from torch import Tensor, nn

from nasfast.morphism.channels import Gate
from nasfast.spaces.base import Space
from nasfast.spaces.graph import Graph
from nasfast.spaces.graph_network import GraphNetwork
from nasfast.supernets.wiring import whole_graph


class MorphNetwork(GraphNetwork):
    """As ``space.build(row)``, with gates behind the operations that a morphism could not silence otherwise.

    The state dict is that of ``space.build(row)``, and ``gates.NODE.weight`` for each gate. In spaces that are
    ``mixable``, "none" is left out of sums, and nodes are numbered as ``space.wire_fixed`` numbers them, the same for
    all rows.

    Args:
        space, row: The architecture.
        num_classes, in_channels: Of the network.
        gated: Nodes of ``whole`` whose output passes through a :class:`Gate`.

    Attributes:
        whole: The graph before nodes were left out.

    Shape: images [N, in_channels, H, W] to logits [N, num_classes].
    """

    def __init__(
        self, space: Space, row: Any, num_classes: int = 10, in_channels: int = 3, gated: Iterable[int] = ()
    ) -> None:
        self.whole = whole_graph(space, row, num_classes, in_channels, fixed=space.mixable)
        graph, kept = without_zeros(self.whole, space.keep_unused)
        super().__init__(graph)
        self.num_classes, self.in_channels = num_classes, in_channels
        self._kept = kept
        self.gates = nn.ModuleDict()
        for node in sorted(gated):
            self.add_gate(node)

    @property
    def gated(self) -> frozenset[int]:
        """Nodes of ``whole`` that have a gate."""
        return frozenset(map(int, self.gates))

    def add_gate(self, node: int) -> Gate:
        """Put a closed gate behind a node of ``whole``, and return it."""
        gate = Gate(self.whole.nodes[node].channels).to(next(self.parameters()))
        self.gates[str(node)] = gate
        return gate

    def _operate(self, index: int, x: Tensor) -> Tensor:
        result = super()._operate(index, x)
        name = str(self._kept[index])
        return self.gates[name](result) if name in self.gates else result


def without_zeros(graph: Graph, keep_unused: bool) -> tuple[Graph, list[int]]:
    """The graph without summands that are zero and (unless ``keep_unused``) without what does not reach the output.

    Returns:
        The graph, and the number that each of its nodes has in the given one.
    """
    zero: list[bool] = []
    nodes = []
    for node in graph.nodes:
        inputs = node.inputs
        if node.kind == "sum":
            inputs = tuple(i for i in inputs if not zero[i]) or inputs[:1]
        nodes.append(replace(node, inputs=inputs))
        of_zero = node.kind == "sum" and all(zero[i] for i in inputs)
        zero.append(of_zero or (node.op is not None and node.op.is_zero))
    used = {0, len(nodes) - 1}
    for index in range(len(nodes) - 1, 0, -1):
        if index in used or (keep_unused and not zero[index]):
            used.update((index, *nodes[index].inputs))
    kept = sorted(used)
    number = {index: place for place, index in enumerate(kept)}
    left = [replace(nodes[i], inputs=tuple(number[j] for j in nodes[i].inputs)) for i in kept]
    return Graph(tuple(left), graph.operations), kept
