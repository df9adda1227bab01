"""What a search network's weights say of the architecture, for the cells of DARTS and for any space of fixed wiring."""

from __future__ import annotations

from typing import Any, Protocol

import torch

from nasfast.spaces.base import Rows
from nasfast.spaces.genotype import Genotype
from nasfast.strategies.gradient.collapse_guard import Observation, derive_capped, observe
from nasfast.strategies.gradient.readout_space import derive_row, observe_row
from nasfast.supernets.cell_network import SearchNetwork
from nasfast.supernets.mixture import MixtureNetwork

Derived = Genotype | Rows


class Architecture(Protocol):
    """Reads the architecture off a search network."""

    def observe(self) -> Observation:
        """What the guard judges."""

    def derive(self, max_skips: int | None) -> Derived:
        """The architecture, with at most so many skip connections where they are counted; None: no cap."""

    def weights(self) -> dict[str, Any]:
        """The weights as a row of the log has them."""

    def summary(self, seen: Observation) -> dict[str, Any]:
        """What else a row of the log says."""


class CellArchitecture:
    """Of the normal and the reduction cell of DARTS."""

    def __init__(self, network: SearchNetwork) -> None:
        self.network = network

    def observe(self) -> Observation:
        return observe(self.network)

    def derive(self, max_skips: int | None) -> Genotype:
        return derive_capped(self.network, max_skips)

    def weights(self) -> dict[str, Any]:
        with torch.no_grad():
            normal, reduce = self.network.cell_weights(False), self.network.cell_weights(True)
        row = {"alphas_normal": normal[0].tolist(), "alphas_reduce": reduce[0].tolist()}
        if len(normal) > 1:
            row |= {"betas_normal": normal[1].tolist(), "betas_reduce": reduce[1].tolist()}
        return row

    def summary(self, seen: Observation) -> dict[str, Any]:
        return {"alpha_entropy": seen.entropy, "skip_normal": seen.skip_normal, "skip_reduce": seen.skip_reduce}


class RowArchitecture:
    """Of a space: the value of the largest weight, decision by decision."""

    def __init__(self, network: MixtureNetwork) -> None:
        self.network = network

    def observe(self) -> Observation:
        return observe_row(self.network)

    def derive(self, max_skips: int | None) -> Rows:
        return derive_row(self.network, max_skips)

    def weights(self) -> dict[str, Any]:
        with torch.no_grad():
            row: dict[str, Any] = {"weights": [weights.tolist() for weights in self.network.expected_weights()]}
            edges = self.network.edge_weights()
        return row if edges is None else row | {"edge_weights": edges.tolist()}

    def summary(self, seen: Observation) -> dict[str, Any]:
        arch = self.network.space.decode(derive_row(self.network, None))
        return {"alpha_entropy": seen.entropy, "skips": seen.skip_normal, "arch": arch}


def architecture_of(network: SearchNetwork | MixtureNetwork) -> Architecture:
    """What reads this kind of network."""
    return RowArchitecture(network) if isinstance(network, MixtureNetwork) else CellArchitecture(network)
