"""Search spaces: what an architecture is and how one is drawn, written and read."""

from nasfast.spaces.darts import PRIMITIVES, count_skips, derive_genotype, random_genotype
from nasfast.spaces.genotype import Genotype

__all__ = ["PRIMITIVES", "Genotype", "count_skips", "derive_genotype", "random_genotype"]
