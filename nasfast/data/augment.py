"""Crop, flip and cutout of a whole batch at once, on the device the batch is on, from an explicit generator."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch


@dataclass(frozen=True)
class Augmentation:
    """What to do to a train image: shift by up to ``pad`` pixels, mirror, blank a ``cutout`` x ``cutout`` square."""

    pad: int = 0
    flip: bool = False
    cutout: int = 0


def normalize(images: torch.Tensor, mean: Sequence[float], std: Sequence[float]) -> torch.Tensor:
    """uint8 ``[B, H, W, C]`` to float32 ``[B, C, H, W]`` in channels_last, with mean 0 and deviation 1 per channel."""
    shift = torch.tensor(mean, dtype=torch.float32, device=images.device)
    scale = torch.tensor(std, dtype=torch.float32, device=images.device)
    return images.float().div_(255).sub_(shift).div_(scale).permute(0, 3, 1, 2)


def augment(
    images: torch.Tensor,
    augmentation: Augmentation,
    mean: Sequence[float],
    std: Sequence[float],
    generator: torch.Generator,
) -> torch.Tensor:
    """Augment and normalise a batch.

    A shifted image is filled with black, a cutout with the mean colour, as in the public DARTS code. Cutout: DeVries
    and Taylor, "Improved Regularization of Convolutional Neural Networks with Cutout", arXiv:1708.04552.

    Args:
        images: uint8 ``[B, H, W, C]``.
        augmentation: What to do.
        mean: Per channel, on the scale 0 to 1.
        std: Per channel, on the scale 0 to 1.
        generator: Source of every random number, on the device of ``images``.

    Returns:
        float32 ``[B, C, H, W]`` in channels_last.
    """
    batch, height, width, _ = images.shape
    device = images.device
    rows = torch.arange(height, device=device).expand(batch, height)
    columns = torch.arange(width, device=device).expand(batch, width)
    if augmentation.flip:
        mirrored = torch.randint(2, (batch, 1), generator=generator, device=device).bool()
        columns = torch.where(mirrored, columns.flip(1), columns)
    if augmentation.pad:
        reach = augmentation.pad
        shift = torch.randint(-reach, reach + 1, (2, batch, 1), generator=generator, device=device)
        rows, columns = rows + shift[0], columns + shift[1]
    if augmentation.pad or augmentation.flip:
        images = _gather(images, rows, columns)
    inputs = normalize(images, mean, std)
    if augmentation.cutout:
        inputs *= _cutout_mask(batch, height, width, augmentation.cutout, generator, device)
    return inputs


def _gather(images: torch.Tensor, rows: torch.Tensor, columns: torch.Tensor) -> torch.Tensor:
    """Pixel ``[rows[b, i], columns[b, j]]`` of image b, black where that lies outside."""
    batch, height, width, _ = images.shape
    inside_rows, inside_columns = (rows >= 0) & (rows < height), (columns >= 0) & (columns < width)
    rows, columns = rows.clamp(0, height - 1), columns.clamp(0, width - 1)
    image = torch.arange(batch, device=images.device)[:, None, None]
    pixels = images[image, rows[:, :, None], columns[:, None, :]]
    return pixels * (inside_rows[:, :, None] & inside_columns[:, None, :])[..., None]


def _cutout_mask(
    batch: int, height: int, width: int, size: int, generator: torch.Generator, device: torch.device
) -> torch.Tensor:
    """``[B, 1, H, W]``, False in a square around a random centre; the square is cut at the image's edge."""
    center_y = torch.randint(height, (batch, 1), generator=generator, device=device)
    center_x = torch.randint(width, (batch, 1), generator=generator, device=device)
    offset_y = torch.arange(height, device=device) - center_y + size // 2
    offset_x = torch.arange(width, device=device) - center_x + size // 2
    inside_y, inside_x = (offset_y >= 0) & (offset_y < size), (offset_x >= 0) & (offset_x < size)
    return ~(inside_y[:, None, :, None] & inside_x[:, None, None, :])
