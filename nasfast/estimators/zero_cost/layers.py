"""What the proxies read of a network: its layers with weights, and where its features leave it."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TypeVar

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm as BatchNorm
from torch.utils.hooks import RemovableHandle

from nasfast.errors import SpaceError

__all__ = ["BatchNorm", "check_layers", "fork_random", "hooks", "weights_of"]

M = TypeVar("M", bound=nn.Module)
WEIGHTED = (nn.Conv1d, nn.Conv2d, nn.Linear)
"""Layers whose weights the proxies measure, as published; normalisation and biases do not count."""


def weights_of(network: nn.Module) -> list[Tensor]:
    """Weights of convolutions and linear layers."""
    return [module.weight for module in network.modules() if isinstance(module, WEIGHTED)]


def check_layers(network: nn.Module, kinds: tuple[type[M], ...], proxy: str) -> list[M]:
    """All layers of these kinds.

    Raises:
        SpaceError: There is none.
    """
    found = [module for module in network.modules() if isinstance(module, kinds)]
    if not found:
        raise SpaceError(f"{proxy} needs a network with {' or '.join(k.__name__ for k in kinds)}, got one without")
    return found


@contextmanager
def hooks(handles: list[RemovableHandle]) -> Iterator[None]:
    """Removes them at the end of the block."""
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()


@contextmanager
def fork_random(images: Tensor, seed: int) -> Iterator[None]:
    """Random numbers of torch follow ``seed`` within the block, and go on afterwards as if it had not been."""
    devices = [images.device] if images.device.type == "cuda" else []
    with torch.random.fork_rng(devices=devices):
        torch.manual_seed(seed)
        yield
