"""Cost as one size grows and the others stay: shared by the benches."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import torch

from bench.arguments import progress
from bench.plots import Series
from bench.tables import Row, milliseconds, times
from bench.timing import Step, Timing, compare

PLAIN_WAYS = ("eager", "channels_last")
WAYS = (*PLAIN_WAYS, "fused")
HEADERS = ("what grows", "size", "eager, ms", "channels_last, ms", "fused, ms", "over eager", "over channels_last")


@dataclass(frozen=True)
class Growth:
    """Timings of the three ways at each size of one growing quantity."""

    what: str
    sizes: tuple[int, ...]
    timings: tuple[dict[str, Timing], ...]

    def rows(self) -> list[Row]:
        rows: list[Row] = []
        for size, timing in zip(self.sizes, self.timings, strict=True):
            eager, channels_last, fused = (timing[way].median for way in WAYS)
            seconds = (milliseconds(eager), milliseconds(channels_last), milliseconds(fused))
            rows.append((self.what, str(size), *seconds, times(eager / fused), times(channels_last / fused)))
        return rows

    def panel(self) -> tuple[Sequence[int], Series]:
        return self.sizes, {way: [timing[way].median for timing in self.timings] for way in WAYS}

    def to_json(self) -> dict[str, object]:
        points = [{way: timing[way].to_json() for way in WAYS} for timing in self.timings]
        return {"what": self.what, "sizes": list(self.sizes), "points": points}


def grow(
    sizes: Mapping[str, Sequence[int]],
    build: Callable[[str, int], Mapping[str, Step]],
    rounds: int,
    threads: int,
    warmup: int = 2,
) -> list[Growth]:
    """Times what `build(what, size)` gives, for every size of every quantity; "threads" sets torch's thread count."""
    total, done = sum(map(len, sizes.values())), 0
    growths = []
    for what, values in sizes.items():
        timings = []
        for size in values:
            done += 1
            progress(done, total, f"growing {what}: {size}")
            if what == "threads":
                torch.set_num_threads(size)
            steps = build(what, size)
            timings.append(compare({way: steps[way] for way in WAYS}, rounds, warmup=warmup))
            torch.set_num_threads(threads)
        growths.append(Growth(what, tuple(values), tuple(timings)))
    return growths


def thread_sizes(threads: int) -> dict[str, tuple[int, ...]]:
    """Threads as a growing quantity, 1, 2, 4, ... and `threads`; nothing where only one is asked for."""
    powers = [2**i for i in range(threads.bit_length()) if 2**i < threads]
    return {"threads": (*powers, threads)} if powers else {}
