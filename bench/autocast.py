"""float32, and bfloat16 as users of it train: torch.autocast over a network whose parameters stay float32."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager

import torch
from torch import Tensor

DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16}


@contextmanager
def autocast(device: str, dtype: torch.dtype) -> Iterator[None]:
    """Autocast without its cache of cast weights: a CUDA graph recorded with casts made before never casts again."""
    enabled = dtype != torch.float32
    with torch.autocast(device, dtype=dtype if enabled else None, enabled=enabled, cache_enabled=False):
        yield


def in_dtype(call: Callable[..., Tensor], device: str, dtype: str) -> Callable[..., Tensor]:
    """The call itself for float32; for bfloat16, under autocast. A compiled module stays inside of it."""
    return call if dtype == "float32" else Autocast(call, device, DTYPES[dtype])


class Autocast:
    """Calls a module or a function under autocast; what it gives is in autocast's dtype."""

    def __init__(self, call: Callable[..., Tensor], device: str, dtype: torch.dtype) -> None:
        self._call, self._device, self._dtype = call, device, dtype

    def __call__(self, *inputs: Tensor) -> Tensor:
        with autocast(self._device, self._dtype):
            return self._call(*inputs)
