"""The size at which the images of a folder are learned from."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from statistics import median

from nasfast.data.image_file import Size

SIDES = (16, 24, 32, 48)
"""Sides that are chosen where nobody names one: searches train many networks, so more pixels have to be asked for."""

LARGEST_AS_IS = 224
"""Images of one size are read as they are up to so many pixels a side."""

HALVED = 4
"""Networks of cells halve images twice, so their sides have to be multiples of this."""


def choose_size(sizes: Sequence[Size]) -> Size | None:
    """Height and width to which images are read; None: as they are.

    Images of one size that can be halved twice stay as they are. Of others, squares are learned from: of the largest
    side among :data:`SIDES` that half of the images have without being enlarged, or of less where they are smaller.

    Args:
        sizes: Of images that can be read, at least one.
    """
    if one_size(sizes) and max(sizes[0]) <= LARGEST_AS_IS and not any(side % HALVED for side in sizes[0]):
        return None
    shorter = int(median(min(size) for size in sizes))
    side = max((side for side in SIDES if side <= shorter), default=max(HALVED, shorter // HALVED * HALVED))
    return side, side


def one_size(sizes: Collection[Size]) -> bool:
    """Whether all images have the same one."""
    return len(set(sizes)) == 1


def size_text(size: Size) -> str:
    """Width x height, as people write it."""
    return f"{size[1]}x{size[0]}"
