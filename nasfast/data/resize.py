"""Smaller images, by averaging."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor


def shrink_images(images: Tensor, side: int) -> Tensor:
    """uint8 [N, H, W, C] to uint8 [N, side, side, C]: means over areas of pixels."""
    if images.shape[1:3] == (side, side):
        return images
    small = F.interpolate(images.permute(0, 3, 1, 2).float(), (side, side), mode="area")
    return small.round().to(torch.uint8).permute(0, 2, 3, 1).contiguous()
