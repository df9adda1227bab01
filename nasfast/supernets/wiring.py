"""How all architectures of a space are wired at once, where they differ in operations alone."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from nasfast.errors import SpaceError
from nasfast.spaces.base import Rows, Space
from nasfast.spaces.graph import Builder, Graph, Node

_SAMPLES = 16  # rows beyond those with one decision changed that a wiring is checked on


@dataclass(frozen=True)
class Place:
    """A node of every architecture.

    Attributes:
        decision: The one that chooses its operation; -1 where it is always the same.
        nodes: The node for each value of the decision.
    """

    decision: int
    nodes: tuple[Node, ...]


def whole_graph(space: Space, row: Rows, num_classes: int, in_channels: int, fixed: bool = False) -> Graph:
    """The graph of a row, with the nodes that do not reach its output; ``fixed``: as ``space.wire_fixed`` wires it."""
    net = Builder(space.operations, in_channels, num_classes)
    wire = space.wire_fixed if fixed else space.wire
    return net.graph(wire(space.choices(row), net), keep_unused=True)


def single_changes(space: Space) -> list[tuple[int, int, Rows]]:
    """(decision, value, row) of every row that differs from the first one in at most one decision."""
    changes = []
    for decision, size in enumerate(space.sizes.tolist()):
        for value in range(size):
            row = np.zeros(len(space.sizes), np.int64)
            row[decision] = value
            changes.append((decision, value, row))
    return changes


def find_wiring(space: Space, num_classes: int, in_channels: int) -> tuple[Place, ...]:
    """The places of a space that is ``mixable``.

    Raises:
        SpaceError: Two of its rows are wired differently, or one operation follows two decisions.
    """
    base = whole_graph(space, np.zeros(len(space.sizes), np.int64), num_classes, in_channels, fixed=True)
    decisions = [-1] * len(base.nodes)
    variants: list[dict[int, Node]] = [{} for _ in base.nodes]
    for decision, value, row in single_changes(space):
        nodes = _same_wiring(space, base, whole_graph(space, row, num_classes, in_channels, fixed=True))
        for at, (node, first) in enumerate(zip(nodes, base.nodes, strict=True)):
            if node != first:
                if decisions[at] not in (-1, decision):
                    names = [space.decisions[i].name for i in (decisions[at], decision)]
                    raise SpaceError(f"{space.name}: fixed_wiring, but node {at} follows {names[0]} and {names[1]}")
                decisions[at] = decision
                variants[at][value] = node
    places = []
    for decision, found, first in zip(decisions, variants, base.nodes, strict=True):
        values = 1 if decision < 0 else int(space.sizes[decision])
        places.append(Place(decision, tuple(found.get(value, first) for value in range(values))))
    for row in space.sample(np.random.default_rng(0), _SAMPLES):
        nodes = _same_wiring(space, base, whole_graph(space, row, num_classes, in_channels, fixed=True))
        for at, (node, place) in enumerate(zip(nodes, places, strict=True)):
            if node != place.nodes[0 if place.decision < 0 else int(row[place.decision])]:
                raise SpaceError(f"{space.name}: fixed_wiring, but node {at} follows more than one decision")
    return tuple(places)


def _same_wiring(space: Space, base: Graph, other: Graph) -> tuple[Node, ...]:
    def shape(graph: Graph) -> list[tuple[str, tuple[int, ...]]]:
        return [(node.kind, node.inputs) for node in graph.nodes]

    if shape(base) != shape(other):
        raise SpaceError(f"{space.name}: fixed_wiring, but its architectures are not wired alike")
    return other.nodes
