"""What the drop-ins for the public DARTS and PC-DARTS code have in common."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, ClassVar

from torch import Tensor

from nasfast.compat.genotypes import Genotype, public_form
from nasfast.supernets.cell_network import SearchNetwork


class PublicNetwork(SearchNetwork):
    """`SearchNetwork` with the public code's constructor, its `new` and its form of a genotype."""

    mixes_partial_channels: ClassVar[bool]

    def __init__(
        self,
        C: int,
        num_classes: int,
        layers: int,
        criterion: Callable[[Tensor, Tensor], Tensor] | None,
        steps: int = 4,
        multiplier: int = 4,
        stem_multiplier: int = 3,
        **options: Any,
    ) -> None:
        partial = self.mixes_partial_channels
        super().__init__(
            C, num_classes, layers, criterion, steps, multiplier, stem_multiplier, partial=partial, **options
        )

    def _build_twin(self) -> PublicNetwork:
        return type(self)(*self._shape(), **self._options)

    def genotype(self) -> Genotype:  # type: ignore[override]
        """The cells that the architecture parameters say now, as the public code's named tuple."""
        return public_form(super().genotype())
