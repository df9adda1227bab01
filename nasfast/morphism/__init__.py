"""Network morphism: larger networks that begin as what a smaller one has learned.

Plain chains: :class:`ChainNetwork` and the functions on it. Architectures of a space: :func:`morph`. Of a shared
network: :func:`from_shared`.
"""

from nasfast.morphism.chain import ChainNetwork
from nasfast.morphism.chain_morphisms import add_branch, add_skip, deepen, grow_kernel, widen
from nasfast.morphism.network import MorphNetwork
from nasfast.morphism.shared import from_shared
from nasfast.morphism.spaces import Morph, growths, morph, preserves

__all__ = [
    "ChainNetwork",
    "Morph",
    "MorphNetwork",
    "add_branch",
    "add_skip",
    "deepen",
    "from_shared",
    "grow_kernel",
    "growths",
    "morph",
    "preserves",
    "widen",
]
