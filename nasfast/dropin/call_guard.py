"""What has to stay true of a module for its fused forward to stand for it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor, nn

from nasfast.dropin.reads import watched
from nasfast.nn.fused import norm_settings
from nasfast.nn.fused_contract import Structure

_FLOATS = (torch.float32, torch.float64, torch.bfloat16)
_DEVICES = ("cpu",)


class Guard:
    """Notes the structure of some modules, and tells at each call whether it is still the same.

    Someone may drop a candidate, register a hook, change a dropout rate or freeze a normalisation after the module
    was accelerated. The module then runs its own forward.

    Args:
        holders: modules whose children may not change.
        parts: modules that may not change in any way but their parameters and buffers.
        norms: the normalisations among them.
        heard: further modules that may not have hooks.
    """

    def __init__(
        self,
        holders: Sequence[nn.Module],
        parts: Sequence[nn.Module],
        norms: Sequence[nn.BatchNorm2d],
        heard: Sequence[nn.Module] = (),
    ) -> None:
        self.norms = tuple(norms)
        self._buffers = [_has_statistics(norm) for norm in norms]
        self._structure = Structure(holders, [(str(i), part) for i, part in enumerate(parts)], heard)
        self._reads = watched(layer for part in parts for layer in part.modules())
        self.settings = self._norm_settings()

    def _norm_settings(self) -> set[tuple[object, ...]]:
        """Those of all norms, but for the mode, which may change as long as it is the same for all."""
        return {values[1:] for values in map(norm_settings, self.norms)}

    def holds(self) -> bool:
        return (
            self._structure.holds()
            and all(reads.same() for reads in self._reads)
            and len({norm.training for norm in self.norms}) <= 1
            and self._norm_settings() == self.settings
            and [_has_statistics(norm) for norm in self.norms] == self._buffers
        )


def _has_statistics(norm: nn.BatchNorm2d) -> bool:
    return norm.running_mean is not None


def kernels_take(x: Tensor) -> bool:
    """Whether there are kernels for this dtype on this device."""
    return x.dtype in _FLOATS and x.device.type in _DEVICES


def fusable_input(x: object) -> bool:
    """Whether the fused kernels take this tensor as an image.

    Under autocast to bfloat16 they read what is not float64 in it; there are none for other casts.
    """
    return isinstance(x, Tensor) and x.dim() == 4 and kernels_take(x) and x.numel() > 0 and _fusable_autocast(x)


def fusable_state(x: object) -> bool:
    """Whether they take it as a state of a mixture: under autocast its candidates have to agree on a dtype."""
    if not isinstance(x, Tensor) or not fusable_input(x):
        return False
    return not in_autocast(x) or x.dtype == torch.get_autocast_dtype(x.device.type)


def in_autocast(x: Tensor) -> bool:
    """Whether autocast is on where `x` is."""
    return torch.is_autocast_enabled(x.device.type)


def _fusable_autocast(x: Tensor) -> bool:
    casts = not in_autocast(x) or torch.get_autocast_dtype(x.device.type) == torch.bfloat16
    return casts and not (in_autocast(x) and x.dtype == torch.float64)


def call_signature(args: Sequence[object], kwargs: Mapping[str, object]) -> object:
    """What of a call's values decides the dtypes within it."""
    return _signature(args), tuple((name, _signature(value)) for name, value in sorted(kwargs.items()))


def _signature(value: object) -> object:
    if isinstance(value, Tensor):
        return value.dtype, value.dim()
    if isinstance(value, (list, tuple)):
        return tuple(map(_signature, value))
    return type(value).__qualname__
