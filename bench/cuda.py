"""Measuring on a GPU: the card and its copy bandwidth, timing, CUDA graphs, memory, and single kernels.

`python -m bench.cuda` prints the card's name as results are filed under it, or what is missing for a measurement.

A step is timed with events on torch's current stream, one step between two of them and the GPU idle before: what the
GPU waits for Python in between counts, as it does in a training loop that is bound by launches.
"""

from __future__ import annotations

import contextlib
import gc
import re
import statistics
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import torch

import nasfast._C as extension
from bench.tables import Row
from bench.timing import Step, Timing
from nasfast.utils.device import describe_cuda

CLOCK = "CUDA events"
COPY_BYTES = 1 << 30
"""One buffer of the copy: far larger than any card's cache."""
_WARMUP = 3
_MIN_SAMPLE = 0.05  # seconds of one sample
_MOST_REPEATS = 200


def missing() -> str | None:
    """What a measurement on a GPU lacks, in a line; None where it lacks nothing."""
    if not torch.cuda.is_available():
        return f"no GPU can be used: {describe_cuda()}"
    if extension.build_info()["cuda"] is None:
        return "the extension is built without CUDA kernels: build it with NASFAST_CUDA=1"
    return None


@dataclass(frozen=True)
class Card:
    """A GPU, as torch describes it. `copy` is measured: bytes per second of a large copy, read plus written."""

    name: str
    capability: str
    multiprocessors: int
    memory: int
    cache: int  # bytes of its level-2 cache
    copy: float

    def row(self) -> Row:
        sizes = (f"{self.memory / 1e9:.0f}", f"{self.cache / 1e6:.0f}", f"{self.copy / 1e9:.0f}")
        return (self.name, self.capability, str(self.multiprocessors), *sizes)


CARD_HEADERS = ("card", "capability", "SMs", "memory, GB", "L2 cache, MB", "copy, GB/s")


def measure_card() -> Card:
    """The current device and its copy bandwidth."""
    properties = torch.cuda.get_device_properties(torch.cuda.current_device())
    return Card(
        properties.name,
        f"{properties.major}.{properties.minor}",
        properties.multi_processor_count,
        properties.total_memory,
        properties.L2_cache_size,
        _copy_bandwidth(),
    )


def _copy_bandwidth(repeats: int = 20) -> float:
    source, target = (torch.ones(COPY_BYTES // 4, device="cuda") for _ in range(2))
    return 2 * COPY_BYTES / min(sample(lambda: target.copy_(source), repeats))


def slug(name: str) -> str:
    """A card's name as part of a file's name: 'NVIDIA H100 80GB HBM3' is 'nvidia-h100-80gb-hbm3'."""
    return re.sub(r"[^a-z0-9]+", "-", name.lower()).strip("-")


def sample(step: Step, repeats: int) -> list[float]:
    """Seconds of `repeats` steps, one by one, after a few that do not count."""
    for _ in range(_WARMUP):
        step()
    torch.cuda.synchronize()
    seconds = []
    for _ in range(repeats):
        started, ended = (torch.cuda.Event(enable_timing=True) for _ in range(2))
        started.record()
        step()
        ended.record()
        ended.synchronize()
        seconds.append(started.elapsed_time(ended) / 1e3)
    return seconds


def compare(steps: Mapping[str, Step], rounds: int = 9) -> dict[str, Timing]:
    """The timing of every step, which take turns; a round's sample is the median of its steps."""
    repeats = {name: _repeats(min(sample(step, 2))) for name, step in steps.items()}
    samples: dict[str, list[float]] = {name: [] for name in steps}
    names = list(steps)
    for turn in range(rounds):
        first = turn % len(names)
        for name in names[first:] + names[:first]:
            with _no_garbage_collection():
                samples[name].append(statistics.median(sample(steps[name], repeats[name])))
    return {name: Timing.from_samples(found) for name, found in samples.items()}


def _repeats(seconds: float) -> int:
    return max(3, min(_MOST_REPEATS, round(_MIN_SAMPLE / seconds)))


@contextlib.contextmanager
def _no_garbage_collection() -> Iterator[None]:
    gc.collect()
    gc.disable()
    try:
        yield
    finally:
        gc.enable()


def exact_float32() -> Any:
    """cuDNN without TF32, which keeps 10 bits of a float32's 23. Timing has torch's default, which is with it."""
    return torch.backends.cudnn.flags(enabled=True, benchmark=True, allow_tf32=False)


@dataclass(frozen=True)
class Recorded:
    """A step as a CUDA graph: a call replays all its kernels, and overwrites and returns what the step returned.

    Graphs that share a pool overwrite each other's results too: read one's before another is called.
    """

    graph: torch.cuda.CUDAGraph
    step: Callable[[], Any]  # whose tensors the graph reads: they must live as long
    result: Any

    def __call__(self) -> Any:
        self.graph.replay()
        return self.result


def graphed(step: Callable[[], Any], pool: Any) -> Recorded:
    """Record a step of fixed tensors over a pool of memory; it runs a few times before, as torch asks for."""
    side = torch.cuda.Stream()
    side.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(side):
        for _ in range(_WARMUP):
            step()
    torch.cuda.current_stream().wait_stream(side)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph, pool=pool):
        result = step()
    return Recorded(graph, step, result)


@dataclass(frozen=True)
class StepMemory:
    """Bytes of torch's allocator: before a step, and at its highest."""

    before: int
    peak: int


def step_memory(step: Step) -> StepMemory:
    """What the second step takes; the first one allocates what stays, like workspaces."""
    step()
    gc.collect()
    torch.cuda.synchronize()
    torch.cuda.reset_peak_memory_stats()
    before = torch.cuda.memory_allocated()
    step()
    torch.cuda.synchronize()
    return StepMemory(before, torch.cuda.max_memory_allocated())


@dataclass(frozen=True)
class KernelTime:
    """Launches and seconds of one kernel in one step."""

    launches: float
    seconds: float


def kernel_times(step: Step, repeats: int = 10) -> dict[str, KernelTime]:
    """Every kernel, copy and memset of one step by the profiler's name, which is a C++ signature for a kernel."""
    from torch.profiler import ProfilerActivity, profile

    for _ in range(_WARMUP):
        step()
    torch.cuda.synchronize()
    with profile(activities=[ProfilerActivity.CUDA]) as recorded:
        for _ in range(repeats):
            step()
        torch.cuda.synchronize()
    events = [e for e in recorded.events() or () if e.device_type.name == "CUDA" and not e.is_user_annotation]
    return per_step(((e.name, e.time_range.elapsed_us() / 1e6) for e in events), repeats)


def per_step(events: Iterable[tuple[str, float]], repeats: int) -> dict[str, KernelTime]:
    """Names and seconds of the launches of `repeats` steps, added up by name and divided by the number of steps."""
    found: dict[str, KernelTime] = {}
    for name, seconds in events:
        before = found.get(name, KernelTime(0, 0))
        found[name] = KernelTime(before.launches + 1 / repeats, before.seconds + seconds / repeats)
    return found


def main() -> int:
    lacks = missing()
    if lacks:
        print(f"bench.cuda: {lacks}", file=sys.stderr)
        return 1
    print(slug(torch.cuda.get_device_name()))
    return 0


if __name__ == "__main__":
    sys.exit(main())
