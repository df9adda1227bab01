"""Seconds as people write them."""

from __future__ import annotations


def clock(seconds: float) -> str:
    """Minutes and seconds that are complete, with hours from one on."""
    minutes, rest = divmod(int(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"
