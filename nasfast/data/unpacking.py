"""What zip and tar files have in common: their members, and how much may come out of them."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from nasfast.errors import DataError
from nasfast.utils.shown import shown

_MOST_TIMES = 10
"""So many times its size comes out of any archive of images, which hardly shrink; more has to fit into memory."""


@dataclass(frozen=True)
class Member:
    """What an archive holds under a name.

    Attributes:
        name: With slashes, as it stands in the archive: not to be trusted.
        size: Bytes that come out.
        folder: Whether it is one.
        read: Its content; None for a folder, a link, a device or a pipe. OSError where it is damaged.
    """

    name: str
    size: int = 0
    folder: bool = False
    read: Callable[[], bytes] | None = None


def most_bytes(path: Path) -> int:
    """Bytes that may come out of an archive."""
    return max(os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE"), _MOST_TIMES * path.stat().st_size)


def too_large(path: Path, most: int) -> DataError:
    """What is said where more comes out of an archive than of any that holds images."""
    return DataError(
        f"{shown(path)} unpacks to more than {most / 2**30:.1f} GiB, which is more than this machine's memory and "
        f"{_MOST_TIMES} times its own size; expected images"
    )
