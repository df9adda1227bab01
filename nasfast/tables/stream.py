"""Chunks of bytes as a file that can be looked ahead into."""

from __future__ import annotations

import io
from collections.abc import Iterator
from typing import Any

_TAIL = 64


class ChunkStream(io.RawIOBase):
    """A readable file over an iterator of bytes.

    Attributes:
        tail: The last bytes that were read.
    """

    def __init__(self, chunks: Iterator[bytes]) -> None:
        self._chunks = chunks
        self._ready = b""
        self._place = 0
        self.tail = b""

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        view = memoryview(buffer).cast("B")
        while self._place == len(self._ready):
            chunk = next(self._chunks, None)
            if chunk is None:
                return 0
            self._ready, self._place = chunk, 0
        part = self._ready[self._place : self._place + len(view)]
        view[: len(part)] = part
        self._place += len(part)
        self.tail = (self.tail + part[-_TAIL:])[-_TAIL:]
        return len(part)

    def look_ahead(self, size: int) -> tuple[bytes, bool]:
        """At least ``size`` bytes from here on, fewer where the file ends, and whether they are all."""
        parts = [self._ready[self._place :]]
        total = len(parts[0])
        ended = False
        while total < size and not ended:
            chunk = next(self._chunks, None)
            ended = chunk is None
            parts.append(chunk or b"")
            total += len(parts[-1])
        self._ready, self._place = b"".join(parts), 0
        return self._ready, ended

    def skip(self, size: int) -> None:
        """Leave out bytes."""
        while size > 0:
            part = self.read(size)
            if not part:
                return
            size -= len(part)
