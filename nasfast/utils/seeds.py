"""Seeds: which there are."""

from __future__ import annotations

from nasfast.errors import NasfastError

LARGEST_SEED = 2**63 - 1
"""Generators of torch take a bit more, of which the seeds that are made from one by adding need some."""


def check_seed(name: str, seed: int, error: type[NasfastError]) -> None:
    """Raise an error where a seed is none that every generator takes."""
    if not 0 <= seed <= LARGEST_SEED:
        raise error(f"{name} must be 0 to {LARGEST_SEED}, got {seed}")
