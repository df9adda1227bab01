"""What a child of an elastic network uses of a layer: its first channels, and the middle of its kernels."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor, nn


@dataclass(frozen=True)
class Bounds:
    """What a child uses of a layer: channels in and out, and the kernel size of a convolution."""

    layer: nn.Module
    c_in: int
    c_out: int
    kernel: int = 1

    def weight(self, weight: Tensor) -> Tensor:
        """The part of a convolution's weight, or of a linear layer's: a view."""
        part = weight[: self.c_out]
        if not (isinstance(self.layer, nn.Conv2d) and self.layer.groups > 1):
            part = part[:, : self.c_in]
        if part.dim() < 4:
            return part
        margin = (part.shape[-1] - self.kernel) // 2
        return part[..., margin : margin + self.kernel, margin : margin + self.kernel]

    def vector(self, vector: Tensor) -> Tensor:
        """The part of a bias or of what a normalisation has per channel: a view."""
        return vector[: self.c_out]
