"""How fast this machine could be, and how near to that each kernel comes.

A kernel with F floating-point operations and B bytes read and written cannot end before
max(F / peak FMA rate, B / copy bandwidth). That time over the measured one is its share of the roofline. Both rates are
measured here, in the run that uses them. Bytes count each tensor of a kernel once; a kernel whose tensors are still in
cache can therefore pass 100 % of a bound that memory sets.
"""

from __future__ import annotations

import time
from dataclasses import asdict, dataclass

import torch

import nasfast._C as extension
from bench.tables import Row, percent
from bench.timing import Step

COPY_BYTES = 256 << 20
"""One buffer of the copy: far larger than any cache."""


@dataclass(frozen=True)
class Machine:
    """Peak rates with `threads` threads."""

    threads: int
    flops: float  # float32 operations per second, a fused multiply-add counted as two
    bandwidth: float  # bytes per second of a large copy, read plus written

    def least_seconds(self, flops: float, byte_count: float) -> float:
        return max(flops / self.flops, byte_count / self.bandwidth)

    def is_memory_bound(self, flops: float, byte_count: float) -> bool:
        return byte_count / self.bandwidth > flops / self.flops


@dataclass(frozen=True)
class KernelCost:
    """What one kernel did in one step. `seconds` is the time its threads were in it, divided by their number."""

    name: str
    calls: float
    seconds: float
    flops: float
    bytes: float

    def share_of_roofline(self, machine: Machine) -> float:
        return machine.least_seconds(self.flops, self.bytes) / self.seconds if self.seconds else 0.0


def measure_machine(threads: int, seconds: float = 0.5) -> Machine:
    """Both rates, each the best of several tries: what else runs can only slow them down."""
    flops = max(extension.peak_fma(seconds / 5, threads) for _ in range(5))
    return Machine(threads, flops, _copy_bandwidth(seconds))


def _copy_bandwidth(seconds: float) -> float:
    source, target = (torch.ones(COPY_BYTES // 4) for _ in range(2))
    best = float("inf")
    end = time.perf_counter() + seconds
    while time.perf_counter() < end or best == float("inf"):
        started = time.perf_counter()
        target.copy_(source)
        best = min(best, time.perf_counter() - started)
    return 2 * COPY_BYTES / best


def profile(step: Step, threads: int, repeats: int = 5) -> list[KernelCost]:
    """Per-kernel costs of one step, longest first. The extension times its kernels, per thread, while asked to."""
    step()
    extension.profile_start()
    for _ in range(repeats):
        step()
    kernels = [
        KernelCost(name, calls / repeats, seconds / repeats / threads, flops / repeats, byte_count / repeats)
        for name, (calls, seconds, flops, byte_count) in extension.profile_stop().items()
    ]
    return sorted(kernels, key=lambda kernel: -kernel.seconds)


MACHINE_HEADERS = ("threads", "peak FMA, GFLOP/s", "copy, GB/s")
KERNEL_HEADERS = ("kernel", "calls", "ms", "share of step", "GFLOP/s", "GB/s", "bound by", "of roofline")


def machine_row(machine: Machine) -> Row:
    return (str(machine.threads), f"{machine.flops / 1e9:.0f}", f"{machine.bandwidth / 1e9:.1f}")


def kernel_rows(kernels: list[KernelCost], machine: Machine, step_seconds: float) -> list[Row]:
    """One row per kernel, then the time outside of them and the step as a whole."""
    inside = sum(kernel.seconds for kernel in kernels)
    least = sum(machine.least_seconds(kernel.flops, kernel.bytes) for kernel in kernels)
    outside = max(0.0, step_seconds - inside)
    return [
        *(_kernel_row(kernel, machine, step_seconds) for kernel in kernels),
        ("outside the kernels", "", f"{outside * 1e3:.2f}", percent(outside / step_seconds), "", "", "", ""),
        ("whole step", "", f"{step_seconds * 1e3:.2f}", "100%", "", "", "", percent(least / step_seconds)),
    ]


def kernel_json(kernels: list[KernelCost], machine: Machine) -> list[dict[str, object]]:
    return [asdict(kernel) | {"share_of_roofline": kernel.share_of_roofline(machine)} for kernel in kernels]


def _kernel_row(kernel: KernelCost, machine: Machine, step_seconds: float) -> Row:
    seconds = kernel.seconds or float("inf")
    return (
        kernel.name,
        f"{kernel.calls:.0f}",
        f"{kernel.seconds * 1e3:.2f}",
        percent(kernel.seconds / step_seconds),
        f"{kernel.flops / seconds / 1e9:.1f}",
        f"{kernel.bytes / seconds / 1e9:.1f}",
        "memory" if machine.is_memory_bound(kernel.flops, kernel.bytes) else "arithmetic",
        percent(kernel.share_of_roofline(machine)),
    )
