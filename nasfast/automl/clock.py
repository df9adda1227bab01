"""The time that a fit has: from the start of the process to the checked model."""

from __future__ import annotations

import os
import time
from dataclasses import dataclass


def process_start() -> float:
    """When this process began, on the clock of :func:`time.monotonic`; now, where the system does not tell."""
    now = time.monotonic()
    try:
        with open("/proc/self/stat", encoding="utf-8", errors="replace") as file:
            # Behind the name in brackets, which may hold anything, the twentieth field: ticks since boot.
            ticks = float(file.read().rpartition(")")[2].split()[19])
        age = time.clock_gettime(time.CLOCK_BOOTTIME) - ticks / os.sysconf("SC_CLK_TCK")
    except (OSError, ValueError, IndexError, AttributeError):
        return now
    return now - max(age, 0.0)


@dataclass(frozen=True)
class Deadline:
    """When a fit has to be over.

    Attributes:
        start: On the clock of :func:`time.monotonic`.
        seconds: From there; None: no limit.
    """

    start: float
    seconds: float | None

    def spent(self) -> float:
        """Seconds since the start."""
        return time.monotonic() - self.start

    def left(self) -> float:
        """Seconds to the end; infinite without a limit."""
        return float("inf") if self.seconds is None else self.seconds - self.spent()
