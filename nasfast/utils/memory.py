"""The memory of this process."""

from __future__ import annotations

import resource

import torch


def peak_memory(device: str) -> int:
    """Most bytes that this process has held: of the device's memory, or of the machine's where it is the CPU."""
    if torch.device(device).type == "cuda":
        return torch.cuda.max_memory_allocated(device)
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
