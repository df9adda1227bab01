"""The DARTS search space: its primitives, and how a cell is derived from architecture weights or drawn at random.

Liu, Simonyan, Yang, "DARTS: Differentiable Architecture Search", ICLR 2019; the edge weights are PC-DARTS'.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from nasfast.errors import GenotypeError
from nasfast.kernels.primitives import INPUTS_PER_NODE, PRIMITIVES, num_edges
from nasfast.spaces.genotype import Edge, Genotype


def derive_genotype(
    weights_normal: Tensor,
    weights_reduce: Tensor,
    steps: int = 4,
    multiplier: int = 4,
    primitives: Sequence[str] = PRIMITIVES,
    edge_weights_normal: Tensor | None = None,
    edge_weights_reduce: Tensor | None = None,
) -> Genotype:
    """Keep, per node, the two sources whose best operation other than none weighs most, with that operation.

    Equal weights are decided as in the public code: the lower source first, the earlier operation first.

    Args:
        weights_normal, weights_reduce: [E, K] weights (after the softmax), E = 2 + 3 + ... + (steps + 1).
        multiplier: how many of the last nodes are concatenated.
        edge_weights_normal, edge_weights_reduce: [E] weights of the edges, multiplied in (PC-DARTS).

    Raises:
        GenotypeError: a shape that does not fit, or a weight that is not finite.
    """
    if not 1 <= multiplier <= steps:
        raise GenotypeError(f"multiplier must be 1 to steps = {steps}, got {multiplier}")
    concat = tuple(range(INPUTS_PER_NODE + steps - multiplier, INPUTS_PER_NODE + steps))
    normal = _derive_cell("weights_normal", weights_normal, edge_weights_normal, steps, primitives)
    reduce = _derive_cell("weights_reduce", weights_reduce, edge_weights_reduce, steps, primitives)
    return Genotype(normal, concat, reduce, concat)


def _derive_cell(
    name: str, weights: Tensor, edge_weights: Tensor | None, steps: int, primitives: Sequence[str]
) -> tuple[Edge, ...]:
    expected = (num_edges(steps), len(primitives))
    if tuple(weights.shape) != expected:
        raise GenotypeError(f"{name} must be {list(expected)}, got {list(weights.shape)}")
    values = weights.detach().cpu()
    if values.dtype != torch.float64:
        values = values.float()
    if edge_weights is not None:
        if tuple(edge_weights.shape) != expected[:1]:
            raise GenotypeError(f"edge_{name} must be {list(expected[:1])}, got {list(edge_weights.shape)}")
        values = values * edge_weights.detach().cpu().to(values.dtype)[:, None]
    if not bool(torch.isfinite(values).all()):
        raise GenotypeError(f"{name} holds a value that is not finite: the search has diverged")
    candidates = [k for k, primitive in enumerate(primitives) if primitive != "none"]
    rows = values.tolist()
    cell: list[Edge] = []
    first = 0
    for node in range(steps):
        sources = INPUTS_PER_NODE + node
        best = [max(candidates, key=lambda k: rows[first + source][k]) for source in range(sources)]
        order = sorted(range(sources), key=lambda source: -rows[first + source][best[source]])
        cell += [(primitives[best[source]], source) for source in order[:INPUTS_PER_NODE]]
        first += sources
    return tuple(cell)


def random_genotype(
    generator: torch.Generator, steps: int = 4, primitives: Sequence[str] = PRIMITIVES, multiplier: int = 4
) -> Genotype:
    """Draw two cells: per node two different sources, and for each an operation other than none, all uniform."""
    candidates = [primitive for primitive in primitives if primitive != "none"]

    def draw_cell() -> tuple[Edge, ...]:
        cell: list[Edge] = []
        for node in range(steps):
            sources = torch.randperm(INPUTS_PER_NODE + node, generator=generator)[:INPUTS_PER_NODE].tolist()
            picks = torch.randint(len(candidates), (INPUTS_PER_NODE,), generator=generator).tolist()
            cell += [(candidates[pick], source) for pick, source in zip(picks, sorted(sources), strict=True)]
        return tuple(cell)

    concat = tuple(range(INPUTS_PER_NODE + steps - multiplier, INPUTS_PER_NODE + steps))
    return Genotype(draw_cell(), concat, draw_cell(), concat)


def count_skips(genotype: Genotype) -> tuple[int, int]:
    """Skip connections in the normal and in the reduction cell."""
    normal, reduce = (sum(name == "skip_connect" for name, _ in cell) for cell in (genotype.normal, genotype.reduce))
    return normal, reduce
