"""Drop-in for `Network` of the public DARTS code's model_search.py."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from torch import Tensor

from nasfast.compat.genotypes import Genotype, public_form
from nasfast.supernet.darts import SearchNetwork


class Network(SearchNetwork):
    """The DARTS search network, mixed operations over all channels, on any device.

    Constructor, `new`, `_loss`, `arch_parameters` (alphas of the two cells), `genotype`,
    `forward` and state_dict keys are those of the public code. Keywords beyond it (`fused`, `recompute`,
    `in_channels`, `primitives`) are explained at `nasfast.supernet.SearchNetwork`.
    """

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
        super().__init__(
            C, num_classes, layers, criterion, steps, multiplier, stem_multiplier, partial=False, **options
        )

    def _build_twin(self) -> Network:
        return Network(*self._shape(), **self._options)

    def genotype(self) -> Genotype:  # type: ignore[override]
        """The cells that the architecture parameters say now, as the public code's named tuple."""
        return public_form(super().genotype())
