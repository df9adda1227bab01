"""The network whose weights all architectures of a space share, built from the space's description."""

from __future__ import annotations

import functools
from collections.abc import Iterable
from typing import Any

import torch
from torch import Tensor, nn

from nasfast.errors import ShapeError, SpaceError
from nasfast.spaces.base import Space
from nasfast.spaces.graph import Graph, Node, Op
from nasfast.spaces.graph_network import Zero, make_operation
from nasfast.supernets.units import UnitLowering
from nasfast.supernets.wiring import Place, find_wiring, single_changes, whole_graph

PLANNER = "_planner"
"""Where a network keeps what was read of it for training by paths."""


class SharedNetwork(nn.Module):
    """One set of weights for each operation at each place; a child computes with those that its row chooses.

    Guo et al., "Single Path One-Shot Neural Architecture Search with Uniform Sampling", ECCV 2020.

    Args:
        space: Any space whose :meth:`~nasfast.spaces.base.Space.covering_rows` meet every operation that a row can.
        num_classes, in_channels: Of the network.

    Attributes:
        ops: The operations by place, and by shape where a place has several of one name.
        places: How every child is wired, for spaces that declare ``fixed_wiring``; None for others.

    Shape: images [N, in_channels, H, W] and a row to logits [N, num_classes].
    """

    def __init__(self, space: Space, num_classes: int = 10, in_channels: int = 3) -> None:
        super().__init__()
        self.space, self.num_classes, self.in_channels = space, num_classes, in_channels
        self.ops = nn.ModuleDict()
        self._keys: dict[tuple[str, Op], str] = {}
        self.places: tuple[Place, ...] | None = None
        if space.fixed_wiring:
            self.places = find_wiring(space, num_classes, in_channels)
            self._add(space.graph(single_changes(space)[0][2]), (node for place in self.places for node in place.nodes))
        else:
            for row in space.covering_rows():
                graph = whole_graph(space, row, num_classes, in_channels)
                self._add(graph, graph.nodes)

    def _add(self, graph: Graph, nodes: Iterable[Node]) -> None:
        for node in nodes:
            if node.op is None or not node.weights or (node.weights, node.op) in self._keys:
                continue
            op, key = node.op, node.weights.replace(".", "_")
            if key in self.ops:
                key = f"{key}@{op.c_in}-{op.c_out}-{op.stride}"
                key += "".join(f"-{name}{value}" for name, value in op.settings).replace(".", "_")
            if key in self.ops:
                raise SpaceError(f"{self.space.name}: two operations would share the name {key!r}")
            self._keys[node.weights, op] = key
            self.ops[key] = make_operation(graph, op)

    def __getstate__(self) -> dict[str, Any]:
        return {name: value for name, value in self.__dict__.items() if name != PLANNER}

    def key_of(self, node: Node) -> str:
        """Name in ``ops`` of a node's operation.

        Raises:
            SpaceError: The node is not of this space.
        """
        if node.op is None or (node.weights, node.op) not in self._keys:
            raise SpaceError(
                f"{self.space.name}: {node.weights or node.kind} with {node.op} is no operation of the shared network: "
                "a child of another space, or an operation that the space's covering_rows do not meet"
            )
        return self._keys[node.weights, node.op]

    def compute(self, node: Node, x: Tensor) -> Tensor:
        """A node's operation with the shared weights, in plain PyTorch."""
        result: Tensor = self.ops[self.key_of(node)](x)
        return result

    def lower(self, node: Node, lowering: UnitLowering) -> int:
        """Number of a node's operation among the units that csrc/supernet trains."""
        assert node.op is not None
        key = self.key_of(node)
        return lowering.add_units(key, self.ops[key], node.op.c_in, node.op.c_out)

    def forward(self, images: Tensor, row: Any) -> Tensor:
        """Logits of the child that ``row`` chooses, in plain PyTorch."""
        if images.dim() != 4 or images.shape[1] != self.in_channels:
            raise ShapeError(f"images must be [N, {self.in_channels}, H, W], got {list(images.shape)}")
        return run_graph(self.space.graph(row, self.num_classes, self.in_channels), self, images)


def run_graph(graph: Graph, network: SharedNetwork, images: Tensor) -> Tensor:
    """Compute a graph node by node with the weights of a shared network; a value lives until it was last read."""
    last_reader = {source: index for index, node in enumerate(graph.nodes) for source in node.inputs}
    values: dict[int, Tensor] = {}
    for index, node in enumerate(graph.nodes):
        read = [values[source] for source in node.inputs]
        if node.kind == "input":
            values[index] = images
        elif node.op is not None and node.op.is_identity:
            values[index] = read[0]
        elif node.op is not None and node.op.is_zero:
            values[index] = Zero(node.op.c_out, node.op.stride)(read[0])
        elif node.op is not None:
            values[index] = network.compute(node, read[0])
        elif node.kind == "sum":
            values[index] = functools.reduce(torch.add, read)
        else:
            values[index] = torch.cat(read, 1)
        for source in set(node.inputs):
            if last_reader[source] == index:
                del values[source]
    return values[len(graph.nodes) - 1]
