"""The memory layout that a network trains in."""

from __future__ import annotations

import torch
from torch import nn

_FEWEST_CHANNELS = 8


def training_layout(network: nn.Module, device: str) -> torch.memory_format:
    """channels_last, the faster layout, unless oneDNN's backward would write out of bounds in it.

    It does for a strided 1x1 convolution that reads fewer than 8 channels, on the CPU (torch 2.14).
    """
    if torch.device(device).type == "cpu" and any(map(_reads_few, network.modules())):
        return torch.contiguous_format
    return torch.channels_last


def _reads_few(layer: nn.Module) -> bool:
    if not isinstance(layer, nn.Conv2d) or layer.in_channels >= _FEWEST_CHANNELS:
        return False
    return layer.kernel_size == (1, 1) and layer.stride != (1, 1)
