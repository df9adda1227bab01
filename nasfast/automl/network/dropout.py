"""Dropout whose random numbers are drawn once: at every call a mask is cut out of one long row of them.

A draw for every unit of every step takes longer than the products of a layer (aten's Bernoulli is serial on a CPU).
"""

from __future__ import annotations

import torch
from torch import Tensor

_LENGTH = 1 << 22
"""Numbers that are drawn, at least; masks that overlap by chance come many steps apart."""


class MaskPool:
    """Masks of one probability.

    Args:
        probability: Of a unit to be dropped.
        generator: Draws the numbers, and the place of every mask.
    """

    def __init__(self, probability: float, generator: torch.Generator) -> None:
        self.probability, self._generator = probability, generator
        self._kept = torch.empty(0)

    def apply(self, x: Tensor) -> Tensor:
        """``x`` with units dropped and the others scaled so that their mean stays."""
        if self.probability == 0:
            return x
        size = x.numel()
        if len(self._kept) < 2 * size:
            length = max(_LENGTH, 2 * size)
            kept = torch.rand(length, generator=self._generator) >= self.probability
            self._kept = kept.float() / (1 - self.probability)
        place = int(torch.randint(len(self._kept) - size + 1, (1,), generator=self._generator))
        return x * self._kept[place : place + size].view(x.shape)
