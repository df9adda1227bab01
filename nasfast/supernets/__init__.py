"""Weight-shared search networks."""

from __future__ import annotations

from typing import TYPE_CHECKING

from nasfast.utils.lazy import lazy_names

if TYPE_CHECKING:
    from nasfast.supernets.cell_network import SearchNetwork
    from nasfast.supernets.elastic import ElasticNetwork
    from nasfast.supernets.registry import make_supernet
    from nasfast.supernets.shared import SharedNetwork

__all__ = [
    "ElasticNetwork",
    "SearchNetwork",
    "SharedNetwork",
    "make_supernet",
]

__getattr__, __dir__ = lazy_names(
    __name__,
    {
        "ElasticNetwork": "nasfast.supernets.elastic",
        "SearchNetwork": "nasfast.supernets.cell_network",
        "SharedNetwork": "nasfast.supernets.shared",
        "make_supernet": "nasfast.supernets.registry",
    },
)
