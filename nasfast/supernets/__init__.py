"""Weight-shared search networks."""

from nasfast.spaces.base import Space
from nasfast.supernets.cell_network import SearchNetwork
from nasfast.supernets.elastic import ElasticNetwork
from nasfast.supernets.shared import SharedNetwork

__all__ = ["ElasticNetwork", "SearchNetwork", "SharedNetwork", "make_supernet"]


def make_supernet(space: Space, num_classes: int = 10, in_channels: int = 3) -> SharedNetwork:
    """The network that all architectures of a space share: slices of the largest where the space is elastic."""
    build = ElasticNetwork if space.elastic else SharedNetwork
    return build(space, num_classes, in_channels)
