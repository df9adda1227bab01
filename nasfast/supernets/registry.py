"""The weight-shared network that fits a space."""

from __future__ import annotations

from nasfast.spaces.base import Space
from nasfast.supernets.elastic import ElasticNetwork
from nasfast.supernets.shared import SharedNetwork


def make_supernet(space: Space, num_classes: int = 10, in_channels: int = 3) -> SharedNetwork:
    """The network that all architectures of a space share: slices of the largest where the space is elastic."""
    build = ElasticNetwork if space.elastic else SharedNetwork
    return build(space, num_classes, in_channels)
