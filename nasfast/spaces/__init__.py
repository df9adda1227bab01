"""Search spaces: what an architecture is and how one is drawn, written, read, counted and built.

A space by name: :func:`nasfast.spaces.registry.make_space`. One of your own: :class:`nasfast.spaces.base.Space`.
With training settings that are searched too: :class:`nasfast.spaces.joint.JointSpace`.
"""

from nasfast.kernels.primitives import PRIMITIVES
from nasfast.spaces.base import Choices, Decision, Picture, Rows, Space
from nasfast.spaces.darts import count_skips, derive_genotype, random_genotype
from nasfast.spaces.genotype import Genotype
from nasfast.spaces.graph import Builder, Graph
from nasfast.spaces.joint import JointSpace

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
    "random_genotype",
]
