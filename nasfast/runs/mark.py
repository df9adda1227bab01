"""How much of a file that grows was written: what is missing of that later, or reads otherwise, is damage."""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import NamedTuple

from nasfast.errors import RunError
from nasfast.utils.files import write_error

_FORM = re.compile(rb"(\d{16}) ([0-9a-f]{8})\n")


class End(NamedTuple):
    """Bytes from the start of a file, and a CRC-32 that belongs to them."""

    position: int = 0
    crc: int = 0


class Mark:
    """The end of a file as it was last written, in a small file of its own: ``NAME.end``.

    It is written after the file has grown, and before it is cut. So it never says more than the file has, and what was
    written before a kill or a loss of power may be longer.
    """

    def __init__(self, of: Path) -> None:
        self.path = of.with_name(of.name + ".end")

    def read(self) -> End | None:
        """None where it is missing, or empty: a full disk leaves it so when it is made.

        Raises:
            RunError: It cannot be read, or is damaged.
        """
        try:
            content = self.path.read_bytes()
        except FileNotFoundError:
            return None
        except OSError as error:
            raise RunError(f"cannot read {self.path}: {error.strerror}") from error
        if not content:
            return None
        found = _FORM.fullmatch(content)
        if found is None:
            raise RunError(f"{self.path} is damaged: it is not as nasfast writes it; restore it from a copy")
        return End(int(found[1]), int(found[2], 16))

    def write(self, end: End, sync: bool = False) -> None:
        """Always of one length, so that it takes the place of the last one in a single write.

        Args:
            sync: Be on disk on return, which has to be where the file is about to be cut.

        Raises:
            OSError: It cannot be written.
        """
        handle = os.open(self.path, os.O_WRONLY | os.O_CREAT, 0o666)
        try:
            os.write(handle, b"%016d %08x\n" % (end.position, end.crc))
            if sync:
                os.fsync(handle)
        finally:
            os.close(handle)

    def lower(self, end: End) -> None:
        """Write it before the file is cut.

        Raises:
            RunError: It cannot be written.
        """
        try:
            self.write(end, sync=True)
        except OSError as error:
            raise write_error(self.path, error) from error
