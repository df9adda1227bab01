"""Genotypes in the form that the public DARTS code passes around, prints and reads."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from nasfast.kernels.primitives import PRIMITIVES
from nasfast.spaces import genotype as spaces

__all__ = ["PRIMITIVES", "Genotype", "public_form"]


class Genotype(NamedTuple):
    """Two cells as lists of (primitive, source state), and the states to concatenate."""

    normal: list[tuple[str, int]]
    normal_concat: Sequence[int]
    reduce: list[tuple[str, int]]
    reduce_concat: Sequence[int]


def public_form(genotype: spaces.Genotype) -> Genotype:
    """The named tuple for a nasfast genotype; `nasfast.spaces.Genotype.of` is the way back."""
    return Genotype(
        list(genotype.normal),
        spaces.concat_form(genotype.normal_concat),
        list(genotype.reduce),
        spaces.concat_form(genotype.reduce_concat),
    )
