"""How long a part of the diagnosis may take."""

from __future__ import annotations

from time import monotonic


class Timer:
    """A time that runs from now on.

    Args:
        seconds: None: as long as it takes.
    """

    def __init__(self, seconds: float | None) -> None:
        self.limited = seconds is not None
        self._end = float("inf") if seconds is None else monotonic() + seconds

    def left(self) -> float:
        """Seconds; infinite without a limit."""
        return self._end - monotonic()

    def is_over(self) -> bool:
        return self.limited and self.left() <= 0

    def part(self, share: float) -> Timer:
        """A part of what is left."""
        return Timer(max(self.left(), 0.0) * share if self.limited else None)
