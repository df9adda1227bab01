"""The network of one architecture of a space, as a file of weights describes it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from nasfast.errors import RunError, SpaceError
from nasfast.morphism import MorphNetwork
from nasfast.spaces.base import Space
from nasfast.spaces.registry import SPACES, make_space


class WholeNetwork(nn.Module):
    """A network with the interface of :class:`~nasfast.spaces.genotype_network.DerivedNetwork`, without auxiliary head
    or paths to drop.

    Shape: images [N, C, H, W] to (logits [N, classes], None).
    """

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network
        self.drop_path_prob = 0.0
        self.drop_path_generator: torch.Generator | None = None

    def forward(self, images: Tensor) -> tuple[Tensor, None]:
        return self.network(images), None


@dataclass(frozen=True)
class SpaceModelInfo:
    """What is needed to build a retrained architecture of a space and to prepare its images.

    ``settings`` are those of a space that has a name, as text; None for a space of the user's own. ``mean`` and ``std``
    normalise images on the scale 0 to 1, per channel; ``size`` is height and width in pixels. ``gated`` are the nodes
    that have gates, see :class:`nasfast.morphism.MorphNetwork`.
    """

    label: str
    space: str
    settings: Mapping[str, str] | None
    arch: str
    in_channels: int
    size: tuple[int, int]
    mean: tuple[float, ...]
    std: tuple[float, ...]
    class_names: tuple[str, ...]
    gated: tuple[int, ...] = ()

    @property
    def architecture(self) -> dict[str, str]:
        """What the network is, for people and for the metadata of an exported file."""
        return {"space": self.space, "arch": self.arch}

    def build(self, space: Space | None = None) -> WholeNetwork:
        """The network, with fresh weights.

        Args:
            space: Where it is the user's own.

        Raises:
            RunError: The space is missing, another one, or does not have this architecture.
        """
        try:
            space = self._space(space)
            row, classes = space.encode(self.arch), len(self.class_names)
            if self.gated:
                return WholeNetwork(MorphNetwork(space, row, classes, self.in_channels, self.gated))
            return WholeNetwork(space.build(row, classes, self.in_channels))
        except SpaceError as error:
            raise RunError(f"{self.label}: {error}") from error

    def _space(self, given: Space | None) -> Space:
        if given is not None:
            if given.name != self.space:
                raise SpaceError(f"the network is of the space {self.space}, got the space {given.name}")
            return given
        if self.settings is None or self.space not in SPACES:
            raise SpaceError(f"{self.space} is a space of your own; give it from Python, as space=...")
        return make_space(self.space, self.settings)
