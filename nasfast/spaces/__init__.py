"""Search spaces: what an architecture is and how one is drawn, written, read, counted and built.

A space by name: :func:`nasfast.spaces.registry.make_space`. One of your own: :class:`nasfast.spaces.base.Space`.
With training settings that are searched too: :class:`nasfast.spaces.joint.JointSpace`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from nasfast.utils.lazy import lazy_names

if TYPE_CHECKING:
    from nasfast.kernels.primitives import PRIMITIVES
    from nasfast.spaces.base import Choices, Decision, Picture, Rows, Space
    from nasfast.spaces.darts import count_skips, derive_genotype, random_genotype
    from nasfast.spaces.genotype import Genotype
    from nasfast.spaces.graph import Builder, Graph
    from nasfast.spaces.joint import JointSpace
    from nasfast.spaces.registry import make_space, register_space

__all__ = [
    "PRIMITIVES",
    "Builder",
    "Choices",
    "Decision",
    "Genotype",
    "Graph",
    "JointSpace",
    "Picture",
    "Rows",
    "Space",
    "count_skips",
    "derive_genotype",
    "make_space",
    "random_genotype",
    "register_space",
]

__getattr__, __dir__ = lazy_names(
    __name__,
    {
        "Builder": "nasfast.spaces.graph",
        "Choices": "nasfast.spaces.base",
        "Decision": "nasfast.spaces.base",
        "Genotype": "nasfast.spaces.genotype",
        "Graph": "nasfast.spaces.graph",
        "JointSpace": "nasfast.spaces.joint",
        "PRIMITIVES": "nasfast.kernels.primitives",
        "Picture": "nasfast.spaces.base",
        "Rows": "nasfast.spaces.base",
        "Space": "nasfast.spaces.base",
        "count_skips": "nasfast.spaces.darts",
        "derive_genotype": "nasfast.spaces.darts",
        "make_space": "nasfast.spaces.registry",
        "random_genotype": "nasfast.spaces.darts",
        "register_space": "nasfast.spaces.registry",
    },
)
