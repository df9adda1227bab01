"""What the fused kernels are worth here: a step of a search, beside the same step in plain PyTorch."""

from __future__ import annotations

import statistics
import time
from dataclasses import dataclass, replace

import torch

from nasfast.config.gradient import SearchConfig
from nasfast.search.gradient.loop import SearchLoop, fit_batches
from nasfast.search.inputs import load_run_data
from nasfast.utils.device import use_threads
from nasfast.utils.progress import Progress

_STEPS = 7  # of each kind, by turns; the first two warm up
_WARM_UP = 2


@dataclass(frozen=True)
class StepTimes:
    """Medians, in seconds.

    Attributes:
        fused: A step on the fused kernels.
        plain: The same step of the same network in plain PyTorch.
    """

    fused: float
    plain: float

    def __str__(self) -> str:
        return (
            f"a search step takes {1000 * self.fused:.0f} ms here, and {1000 * self.plain:.0f} ms in plain PyTorch: "
            f"{self.plain / self.fused:.1f} times as long"
        )


def measure_steps(config: SearchConfig, progress: Progress | None = None) -> StepTimes:
    """Time steps of a search with these settings, fused and plain by turns, on the images of the search.

    Args:
        config: Of the search. Steps on weights and architecture are taken, as after its warm-up epochs.

    Raises:
        DataError: The images cannot be read.
    """
    use_threads(config.threads)
    dataset = load_run_data(config, progress or Progress(quiet=True))
    config, space = fit_batches(config, dataset, Progress(quiet=True)), config.searched_space()
    loops = [SearchLoop(replace(config, fused=fused, warmup_epochs=0), dataset, space) for fused in (True, False)]
    times: list[list[float]] = [[], []]
    for _ in range(_STEPS):
        for loop, taken in zip(loops, times, strict=True):
            _wait(config.device)
            started = time.perf_counter()
            loop.take_step()
            _wait(config.device)
            taken.append(time.perf_counter() - started)
    fused, plain = (statistics.median(taken[_WARM_UP:]) for taken in times)
    return StepTimes(fused, plain)


def _wait(device: str) -> None:
    if device.startswith("cuda"):
        torch.cuda.synchronize(device)
