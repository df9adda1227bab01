"""The candidate operations of the DARTS family by name, and the edges of its cells."""

from __future__ import annotations

ALL_PRIMITIVES = (
    "none",
    "max_pool_3x3",
    "avg_pool_3x3",
    "skip_connect",
    "sep_conv_3x3",
    "sep_conv_5x5",
    "dil_conv_3x3",
    "dil_conv_5x5",
    "sep_conv_7x7",
    "conv_7x1_1x7",
)
"""Every operation a genotype may name: the eight of the DARTS search space, then two of hand-made cells."""


INPUTS_PER_NODE = 2


PRIMITIVES = ALL_PRIMITIVES[:8]
"""The eight candidate operations, in the order of the columns of the architecture weights."""


def num_edges(steps: int) -> int:
    """Edges of a cell with `steps` nodes: 2 + 3 + ... (14 for 4 nodes)."""
    return steps * (steps + 3) // 2
