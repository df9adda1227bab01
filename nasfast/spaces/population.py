"""Arithmetic on populations, over the array namespace: the same functions take NumPy arrays and CuPy arrays.

A population is an int64 array [K, D], one row of choices per architecture; ``sizes`` [D] is how many values each
decision has. Nothing here draws random numbers: what is random is passed in as uniform draws in [0, 1), so that a
population on a GPU follows the same generator as one on the CPU.
"""

from __future__ import annotations

import sys
from typing import Any

import numpy as np

Array = Any
"""A NumPy or CuPy array."""


def namespace(array: Array) -> Any:
    """The module whose functions take this array: numpy, or cupy."""
    root = type(array).__module__.partition(".")[0]
    return sys.modules[root] if root == "cupy" else np


def one_hot(rows: Array, sizes: Array) -> Array:
    """Every decision as indicators of its values: float32 [K, sum(sizes)]."""
    xp = namespace(rows)
    width = int(sizes.sum())
    columns = rows + (xp.cumsum(sizes) - sizes)
    out = xp.zeros((rows.shape[0], width), xp.float32)
    out[xp.arange(rows.shape[0])[:, None], columns] = 1
    return out


def hash_rows(rows: Array, sizes: Array) -> Array:
    """uint64 [K]: the row's number where that fits into 64 bits, else a hash that tells rows apart."""
    xp = namespace(rows)
    exact = bool(np.log2(np.asarray(sizes.tolist(), float)).sum() < 63.9)
    code = xp.zeros(rows.shape[0], xp.uint64)
    with np.errstate(over="ignore"):
        for at, size in enumerate(sizes.tolist()):
            value = rows[:, at].astype(xp.uint64)
            if exact:
                code = code * xp.uint64(size) + value
            else:  # the finaliser of SplitMix64 after each step
                code = (code ^ value) * xp.uint64(0x9E3779B97F4A7C15)
                code = (code ^ (code >> xp.uint64(30))) * xp.uint64(0xBF58476D1CE4E5B9)
                code = (code ^ (code >> xp.uint64(27))) * xp.uint64(0x94D049BB133111EB)
                code = code ^ (code >> xp.uint64(31))
    return code


def unique_rows(rows: Array, sizes: Array) -> Array:
    """Places of the first occurrence of every different row, ascending: int64 [U]."""
    xp = namespace(rows)
    _, first = xp.unique(hash_rows(rows, sizes), return_index=True)
    return xp.sort(first)


def mutate_one(rows: Array, sizes: Array, draws: Array) -> Array:
    """Each row with one decision changed to another value, both uniform. ``draws`` [K, 2]. At least one size is > 1."""
    xp = namespace(rows)
    open_decisions = xp.nonzero(sizes > 1)[0]
    at = open_decisions[(draws[:, 0] * len(open_decisions)).astype(xp.int64)]
    step = 1 + (draws[:, 1] * (sizes[at] - 1)).astype(xp.int64)
    children = rows.copy()
    index = xp.arange(rows.shape[0])
    children[index, at] = (rows[index, at] + step) % sizes[at]
    return children


def mutate_each(rows: Array, sizes: Array, draws: Array, rate: float) -> Array:
    """Each decision of each row changed to another value with probability ``rate``. ``draws`` [K, D, 2]."""
    xp = namespace(rows)
    step = 1 + (draws[:, :, 1] * xp.maximum(sizes - 1, 0)).astype(xp.int64)
    return xp.where((draws[:, :, 0] < rate) & (sizes > 1), (rows + step) % sizes, rows)


def crossover(ones: Array, others: Array, draws: Array) -> Array:
    """Each decision from either parent, with equal chances. ``draws`` [K, D]."""
    return namespace(ones).where(draws < 0.5, ones, others)


def dominates(values: Array, violations: Array | None = None) -> Array:
    """bool [K, K]: whether i is at least as good as j in every objective and better in one.

    Args:
        values: [K, M], larger is better.
        violations: [K], how far each breaks the constraints, 0 where it keeps them. One that breaks them less dominates
            one that breaks them more, whatever their values (Deb, 2000).
    """
    xp = namespace(values)
    better = (values[:, None] >= values[None]).all(2) & (values[:, None] > values[None]).any(2)
    if violations is None:
        return better
    keeps = (violations[:, None] <= 0) & (violations[None] <= 0)
    return xp.where(keeps, better, violations[:, None] < violations[None])


def non_dominated_ranks(values: Array, violations: Array | None = None) -> Array:
    """int64 [K]: 0 for what nothing dominates, 1 for what only rank 0 dominates, and so on. See :func:`dominates`."""
    xp = namespace(values)
    wins = dominates(values, violations)
    ranks = xp.full(values.shape[0], -1, xp.int64)
    left = xp.ones(values.shape[0], bool)
    rank = 0
    while bool(left.any()):
        front = left & ~(wins & left[:, None]).any(0)
        ranks[front] = rank
        left &= ~front
        rank += 1
    return ranks


def non_dominated(values: Array, chunk: int = 512) -> Array:
    """bool [K]: what nothing dominates, in memory of ``chunk`` x K. See :func:`dominates`."""
    xp = namespace(values)
    masks = []
    for start in range(0, values.shape[0], chunk):
        some = values[start : start + chunk]
        beaten = (values[:, None] >= some[None]).all(2) & (values[:, None] > some[None]).any(2)
        masks.append(~beaten.any(0))
    return xp.concatenate(masks) if masks else xp.zeros(0, bool)


def crowding_distance(values: Array, ranks: Array) -> Array:
    """float64 [K]: how far apart the neighbours of each are within its rank, summed over objectives; inf at the ends.

    Deb et al., "A Fast and Elitist Multiobjective Genetic Algorithm: NSGA-II", IEEE TEC 2002.
    """
    xp = namespace(values)
    distance = xp.zeros(values.shape[0])
    for rank in range(int(ranks.max()) + 1 if ranks.shape[0] else 0):
        members = xp.nonzero(ranks == rank)[0]
        for objective in range(values.shape[1]):
            column = values[members, objective]
            order = xp.argsort(column, kind="stable")
            line, span = column[order], column.max() - column.min()
            gaps = xp.full(members.shape[0], xp.inf)
            if members.shape[0] > 2:
                inner = line[2:] - line[:-2]
                gaps[1:-1] = inner / span if float(span) > 0 else xp.zeros_like(inner)
            distance[members[order]] += gaps
    return distance
