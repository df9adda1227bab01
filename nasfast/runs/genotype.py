"""The genotype that a run of cells has found."""

from __future__ import annotations

from nasfast.errors import GenotypeError
from nasfast.runs.folder import RunFolder
from nasfast.spaces.genotype import Genotype
from nasfast.utils.sealed import read_sealed


def read_genotype(run: RunFolder) -> Genotype:
    """The content of genotype.json; other files of genotypes are read by :meth:`Genotype.load`, with no checksum too.

    Raises:
        GenotypeError: It cannot be read, or its checksum is missing or does not fit.
    """
    read_sealed(run.genotype_path, "a genotype with a checksum", GenotypeError)
    return Genotype.load(run.genotype_path)
