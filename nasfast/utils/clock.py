"""Seconds: counted, and as people write them."""

from __future__ import annotations

from time import monotonic


def clock(seconds: float) -> str:
    """Minutes and seconds that are complete, with hours from one on."""
    minutes, rest = divmod(int(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"


class Stopwatch:
    """Counts the seconds that something takes, over all its sessions."""

    def __init__(self) -> None:
        self.set(0.0)

    def set(self, seconds: float) -> None:
        """Go on from so many."""
        self._began = monotonic() - seconds

    @property
    def seconds(self) -> float:
        """Until now."""
        return monotonic() - self._began
