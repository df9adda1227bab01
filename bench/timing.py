"""Times several ways of doing the same thing side by side.

The ways take turns, in an order that rotates from round to round, so that whatever else the machine does falls on all
of them alike. What is compared are medians over the rounds. Python's garbage collector rests meanwhile, as in timeit.
"""

from __future__ import annotations

import gc
import statistics
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass

Step = Callable[[], object]


@dataclass(frozen=True)
class Timing:
    """Seconds of one step, one sample per round."""

    samples: tuple[float, ...]

    @property
    def median(self) -> float:
        return statistics.median(self.samples)

    @property
    def spread(self) -> float:
        """Half the distance between the quartiles, as a share of the median."""
        if len(self.samples) < 2:
            return 0.0
        low, _, high = statistics.quantiles(self.samples, n=4, method="inclusive")
        return (high - low) / 2 / self.median

    def to_json(self) -> dict[str, object]:
        return {
            "median_seconds": self.median,
            "spread": self.spread,
            "best_seconds": min(self.samples),
            "rounds": len(self.samples),
        }

    @classmethod
    def from_samples(cls, samples: list[float]) -> Timing:
        return cls(tuple(samples))


def compare(steps: Mapping[str, Step], rounds: int = 9, min_sample: float = 0.1, warmup: int = 2) -> dict[str, Timing]:
    """The timing of every step. One shorter than `min_sample` seconds is repeated in a sample, in its own caches."""
    repeats = {name: _repeats(step, min_sample, warmup) for name, step in steps.items()}
    samples: dict[str, list[float]] = {name: [] for name in steps}
    names = list(steps)
    for turn in range(rounds):
        first = turn % len(names)
        for name in names[first:] + names[:first]:
            samples[name].append(_sample(steps[name], repeats[name]))
    return {name: Timing.from_samples(samples[name]) for name in names}


def speedup(timings: Mapping[str, Timing], slow: str, fast: str) -> float:
    """How many times faster `fast` is than `slow`."""
    return timings[slow].median / timings[fast].median


def _repeats(step: Step, min_sample: float, warmup: int) -> int:
    seconds = min(_sample(step, 1) for _ in range(max(1, warmup)))
    return max(1, round(min_sample / seconds))


def _sample(step: Step, repeats: int) -> float:
    gc.collect()
    gc.disable()
    try:
        started = time.perf_counter()
        for _ in range(repeats):
            step()
        return (time.perf_counter() - started) / repeats
    finally:
        gc.enable()
