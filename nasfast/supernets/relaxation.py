"""What makes the weights of candidate operations of architecture parameters: the softmax, unless a strategy samples."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Protocol

import torch.nn.functional as F
from torch import Tensor


class Relaxation(Protocol):
    """Weights of candidate operations as a function of architecture parameters; rows are decisions (or edges).

    Attributes:
        drawn: The weights of a forward are drawn, so that all places that follow one decision need the same draw.
        hard: They are one-hot: what weighs nothing need not be computed.
    """

    @property
    def drawn(self) -> bool: ...

    @property
    def hard(self) -> bool: ...

    def expected(self, alphas: Tensor) -> Tensor:
        """What an architecture is derived from: [E, K] to [E, K], rows sum to 1."""

    def sample(self, alphas: Tensor) -> Tensor:
        """The weights of one forward: [E, K] to [E, K], rows sum to 1."""


class Softmax:
    """Liu, Simonyan, Yang, "DARTS: Differentiable Architecture Search", ICLR 2019, equation 2."""

    drawn = False
    hard = False

    def expected(self, alphas: Tensor) -> Tensor:
        return F.softmax(alphas, dim=-1)

    def sample(self, alphas: Tensor) -> Tensor:
        return F.softmax(alphas, dim=-1)


def move_in_place(tensors: Iterable[Tensor], fn: Callable[[Tensor], Tensor]) -> None:
    """Apply ``fn``, as ``nn.Module._apply`` has it, to tensors and their gradients; who holds them goes on working."""
    for tensor in tensors:
        tensor.data = fn(tensor.data)
        if tensor.grad is not None:
            tensor.grad.data = fn(tensor.grad.data)
