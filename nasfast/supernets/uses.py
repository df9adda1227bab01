"""Which operations of a shared network some children use: known from their graphs, before anything is computed."""

from __future__ import annotations

from collections import Counter
from typing import NamedTuple

from nasfast.spaces.base import Rows
from nasfast.supernets.shared import SharedNetwork


class Uses(NamedTuple):
    """Names in ``network.ops``.

    Attributes:
        computed: What the children compute, and how many of them.
        learning: What their loss depends on: a space may keep operations that do not reach the output.
    """

    computed: Counter[str]
    learning: set[str]


def uses_of(network: SharedNetwork, rows: Rows) -> Uses:
    """What the children int64 [K, D] use."""
    computed: Counter[str] = Counter()
    learning: set[str] = set()
    for row in rows:
        nodes = network.space.graph(row, network.num_classes, network.in_channels).nodes
        reached = {len(nodes) - 1}
        for index in range(len(nodes) - 1, -1, -1):
            node = nodes[index]
            if node.weights:
                computed[network.key_of(node)] += 1
            if index not in reached or (node.op is not None and node.op.is_zero):
                continue
            reached.update(node.inputs)
            if node.weights:
                learning.add(network.key_of(node))
    return Uses(computed, learning)
