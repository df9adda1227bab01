"""One image file as RGB pixels of 8 bits: turned as its camera says, transparency on white, scaled and cropped."""

from __future__ import annotations

import io
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from PIL import ExifTags, Image, ImageOps, UnidentifiedImageError

from nasfast.errors import DataError
from nasfast.utils.shown import shown

SUFFIXES = (
    ".jpg", ".jpeg", ".png", ".bmp", ".webp", ".gif", ".ppm", ".pgm", ".tif", ".tiff",
    ".jfif", ".jpe", ".avif", ".jp2", ".tga", ".pnm", ".pbm",
)  # fmt: skip
Size = tuple[int, int]
"""Height and width, in pixels."""

TRANSPARENT = "have transparent parts, which are read on white"
FRAMES = "have several pages or frames, of which the first is read"
DEEP = "have 16 bits per channel, which are scaled to 8"

_MOST_BAD = 0.05
"""Share of images that may be unreadable without anybody having allowed it: folders of people have a few."""

_TRANSPOSED = (5, 6, 7, 8)  # values of EXIF's orientation that exchange height and width
_MOST_16_BIT = 65_535


class ImageFile(Protocol):
    """A file of the file system (a ``Path`` is one) or of an archive; its text is what messages call it."""

    @property
    def name(self) -> str:
        """Its name alone."""

    def read_bytes(self) -> bytes:
        """Its content; OSError where that cannot be read."""


@dataclass(frozen=True)
class Pixels:
    """What a file holds.

    Attributes:
        image: uint8 [H, W, 3].
        notes: What was done to it that changes what it shows: some of the constants above.
    """

    image: np.ndarray
    notes: tuple[str, ...] = ()


def size_of(content: bytes) -> Size | None:
    """Height and width as an image is shown, from its header; None where that cannot be read."""
    try:
        with Image.open(io.BytesIO(content)) as image:
            turned = image.getexif().get(ExifTags.Base.Orientation) in _TRANSPOSED
            return (image.width, image.height) if turned else (image.height, image.width)
    except Exception:  # PIL raises nearly anything on damaged files; who decodes it says what is wrong
        return None


def read_image(path: ImageFile, size: Size | None = None) -> Pixels:
    """Read one image file.

    Args:
        path: The file.
        size: Scale to it, keeping proportions, and cut off equally at both ends what is too much; None: as it is.

    Raises:
        DataError: The file is no image, or is damaged, or has pixels of no known range.
    """
    try:
        with Image.open(io.BytesIO(path.read_bytes())) as image:
            notes = [FRAMES] if getattr(image, "n_frames", 1) > 1 else []
            if size is not None:
                # JPEG is decoded at a fraction of its size where that is still twice what is wanted.
                image.draft("RGB", (2 * max(size), 2 * max(size)))
            rgb = _as_rgb(ImageOps.exif_transpose(image), path, notes)
            if size is not None and (rgb.height, rgb.width) != size:
                rgb = ImageOps.fit(rgb, (size[1], size[0]), Image.Resampling.BICUBIC)
            return Pixels(np.asarray(rgb), tuple(notes))
    except DataError:
        raise
    except Exception as error:  # PIL raises nearly anything on damaged files
        raise DataError(
            f"cannot read image {shown(path)}: {shown(_reason(error))}; --skip-bad leaves such images out"
        ) from error


def most_bad(count: int, skip_bad: bool) -> int:
    """How many of so many images may be left out since they cannot be read."""
    return count if skip_bad else int(_MOST_BAD * count)


def left_out(paths: Sequence[str]) -> str:
    """What is said of files that could not be read; at least one."""
    return f"left out {len(paths)} unreadable image{'s' * (len(paths) > 1)}, {shown(paths[0])} is the first"


def _as_rgb(image: Image.Image, path: ImageFile, notes: list[str]) -> Image.Image:
    if image.mode == "F" or image.mode.startswith("I"):
        notes.append(DEEP)
        return _from_deep(image, path).convert("RGB")
    if image.mode in ("RGBA", "LA", "PA", "La", "RGBa") or "transparency" in image.info:
        layered = image.convert("RGBA")
        if layered.getchannel("A").getextrema() != (255, 255):
            notes.append(TRANSPARENT)
            return Image.alpha_composite(Image.new("RGBA", layered.size, "white"), layered).convert("RGB")
        return layered.convert("RGB")
    return image.convert("RGB")


def _from_deep(image: Image.Image, path: ImageFile) -> Image.Image:
    """Grey values of 16 bits as those of 8; files of 32 bits are taken where their values would fit 16."""
    values = np.asarray(image)
    if image.mode == "F" or values.min() < 0 or values.max() > _MOST_16_BIT:
        raise DataError(
            f"cannot read image {shown(path)}: its pixels are of mode {image.mode} and no known range, expected 8 or "
            "16 bits per channel; --skip-bad leaves such images out"
        )
    return Image.fromarray(np.rint(values * (255 / _MOST_16_BIT)).astype(np.uint8))


def _reason(error: Exception) -> str:
    if isinstance(error, UnidentifiedImageError):
        return "not an image"  # its own text shows a buffer in memory
    return str(error) or type(error).__name__
