"""Network morphism: larger networks that begin as what a smaller one has learned.

Plain chains: :class:`ChainNetwork` and the functions on it. Architectures of a space: :func:`morph`. Of a shared
network: :func:`from_shared`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from nasfast.utils.lazy import lazy_names

if TYPE_CHECKING:
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

__getattr__, __dir__ = lazy_names(
    __name__,
    {
        "ChainNetwork": "nasfast.morphism.chain",
        "Morph": "nasfast.morphism.spaces",
        "MorphNetwork": "nasfast.morphism.network",
        "add_branch": "nasfast.morphism.chain_morphisms",
        "add_skip": "nasfast.morphism.chain_morphisms",
        "deepen": "nasfast.morphism.chain_morphisms",
        "from_shared": "nasfast.morphism.shared",
        "grow_kernel": "nasfast.morphism.chain_morphisms",
        "growths": "nasfast.morphism.spaces",
        "morph": "nasfast.morphism.spaces",
        "preserves": "nasfast.morphism.spaces",
        "widen": "nasfast.morphism.chain_morphisms",
    },
)
