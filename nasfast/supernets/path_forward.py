"""Forward of a shared network along a path while it is trained: on kernels where they apply, else in plain PyTorch."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from nasfast.supernets.lowering import NoKernelError
from nasfast.supernets.paths import forward_paths, planner_of
from nasfast.supernets.shared import SharedNetwork


class PathForward:
    """``forward(images, row)``: logits of one child, ready for a backward; either way gives the same up to rounding.

    Args:
        network: On its device and of its dtype.
        bf16: It will be called under autocast.
        kernels: False: plain PyTorch in any case.

    Attributes:
        reason: Why it is plain PyTorch; "" on the kernels.
    """

    def __init__(self, network: SharedNetwork, *, bf16: bool = False, kernels: bool = True) -> None:
        self.network = network
        self.reason = _why_plain(network, bf16) if kernels else "asked for"

    @property
    def way(self) -> str:
        """How paths are computed, and why."""
        return f"in plain PyTorch: {self.reason}" if self.reason else "on the kernels of shared networks"

    def __call__(self, images: Tensor, row: Any) -> Tensor:
        """Logits [N, classes] of images [N, C, H, W]."""
        logits: Tensor = self.network(images, row) if self.reason else forward_paths(self.network, images, row)
        return logits


def _why_plain(network: SharedNetwork, bf16: bool) -> str:
    parameter = next(network.parameters())
    if bf16:
        return "the kernels have no bfloat16"
    if parameter.device.type != "cpu" or parameter.dtype != torch.float32:
        return f"the network is {str(parameter.dtype).removeprefix('torch.')} on {parameter.device.type}"
    try:
        planner = planner_of(network)
        if planner.whole is None:  # then operations are met with the children that choose them
            for row in network.space.covering_rows():
                planner.child(network.space.graph(row, network.num_classes, network.in_channels))
    except NoKernelError as error:
        return str(error)
    return ""
