"""Weight-shared search networks."""

from nasfast.supernet.darts import SearchNetwork

__all__ = ["SearchNetwork"]
