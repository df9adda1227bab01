"""The optimizer of weights, the same for a search and for the network it found, and its learning rate."""

from __future__ import annotations

from typing import Protocol

import torch
from torch import Tensor, nn


class SGDOptions(Protocol):
    """Part of a search's and of a retraining's configuration."""

    @property
    def lr(self) -> float: ...

    @property
    def momentum(self) -> float: ...

    @property
    def weight_decay(self) -> float: ...


def weight_optimizer(network: nn.Module, options: SGDOptions) -> torch.optim.SGD:
    """SGD over all parameters of `network`, many tensors at a time."""
    return torch.optim.SGD(
        network.parameters(),
        lr=options.lr,
        momentum=options.momentum,
        weight_decay=options.weight_decay,
        foreach=True,
    )


def set_rate(optimizer: torch.optim.Optimizer, rate: float) -> None:
    """Set the learning rate of every group; one that is a tensor in place, so that recorded steps see it."""
    for group in optimizer.param_groups:
        if isinstance(group["lr"], Tensor):
            group["lr"].fill_(rate)
        else:
            group["lr"] = rate
