"""Memory that a training step takes: tensors kept for backward, and the peak of the whole process."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor, nn

STATUS = Path("/proc/self/status")


def saved_bytes(forward: Callable[[], Tensor], module: nn.Module) -> int:
    """Bytes that `forward` keeps for backward, as autograd's saved-tensor hooks see them.

    Storages are counted once and whole, however many saved tensors look at them; the module's parameters and buffers,
    which exist anyway, are not counted. The inputs are, where they are saved.
    """
    known = {_address(tensor) for tensor in _owned(module)}
    saved: dict[int, int] = {}

    def pack(tensor: Tensor) -> Tensor:
        if _address(tensor) not in known:
            saved[_address(tensor)] = tensor.untyped_storage().nbytes()
        return tensor.detach()  # not the tensor: kept by its own graph it would never be freed

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
        forward()  # the graph lives on in the result until this statement ends, so no address is used twice
    return sum(saved.values())


@dataclass(frozen=True)
class ProcessMemory:
    """Bytes of resident memory of this process."""

    now: int
    peak: int


def process_memory() -> ProcessMemory:
    """Now and at its highest since the program started. Linux only: getrusage's peak would include the parent's."""
    fields = dict(line.split(":", 1) for line in STATUS.read_text().splitlines())
    return ProcessMemory(now=_kib(fields["VmRSS"]) * 1024, peak=_kib(fields["VmHWM"]) * 1024)


def _kib(field: str) -> int:
    return int(field.split()[0])


def _address(tensor: Tensor) -> int:
    return tensor.untyped_storage().data_ptr()


def _owned(module: nn.Module) -> Iterable[Tensor]:
    yield from module.parameters()
    yield from module.buffers()
