"""Seconds: counted, and as people write them."""

from __future__ import annotations

from datetime import datetime, timedelta
from time import monotonic


def clock(seconds: float) -> str:
    """Minutes and seconds that are complete, with hours from one on."""
    minutes, rest = divmod(int(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"


def time_in(seconds: float, now: datetime | None = None) -> str:
    """The time of day in so many seconds: ``14:35``, ``Tue 02:10`` on another day, ``12 May 02:10`` after a week."""
    now = now or datetime.now()
    end = now + timedelta(seconds=seconds)
    days = (end.date() - now.date()).days
    return f"{end:%H:%M}" if not days else f"{end:%a %H:%M}" if days < 7 else f"{end.day} {end:%b %H:%M}"


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
