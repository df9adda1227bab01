"""What has to stay true of a module for its fused forward to stand for it."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from nasfast.accelerate.recognise import Bank, has_hooks

_PLAIN = (int, float, bool, str, tuple, type(None))
_KNOWN = (
    nn.Conv2d,
    nn.BatchNorm2d,
    nn.MaxPool2d,
    nn.AvgPool2d,
    nn.ReLU,
    nn.Identity,
    nn.Sequential,
    nn.ModuleList,
    nn.ModuleDict,
)
_FLOATS = (torch.float32, torch.float64, torch.bfloat16)
_DEVICES = ("cpu",)


class Guard:
    """Notes the structure of some modules, and tells at each call whether it is still the same.

    Someone may drop a candidate, register a hook, change a dropout rate or freeze a normalisation after the module
    was accelerated. The module then runs its own forward.
    """

    def __init__(self, banks: Sequence[Bank], heard: Sequence[nn.Module] = ()) -> None:
        """`banks` hold the candidates, which may not change; `heard` are further modules that may not have hooks."""
        norms = [norm for bank in banks for norm in bank.norms()]
        self.norms = tuple(norms)
        self.eps, self.momentum = (norms[0].eps, norms[0].momentum) if norms else (1e-5, 0.1)
        parts = [part for bank in banks for child in bank.candidates for part in child.module.modules()]
        self.parts = (*parts, *heard)
        self.links = tuple(
            (part, name, child)
            for part in [*(bank.holder for bank in banks), *parts]
            for name, child in part._modules.items()
            if child is not None
        )
        self.settings = tuple(setting for part in parts for setting in _settings(part))

    def training(self) -> bool | None:
        """Whether normalisation uses batch statistics; None where the fused forward does not hold any more."""
        for part, name, child in self.links:
            if part._modules.get(name) is not child:
                return None
        for part in self.parts:
            if has_hooks(part):
                return None
        for part, name, value in self.settings:
            if part.__dict__.get(name) != value:
                return None
        training = self.norms[0].training if self.norms else False
        for norm in self.norms:
            usual = norm.eps == self.eps and norm.momentum == self.momentum and norm.track_running_stats
            if not usual or norm.training != training:
                return None
        return training


def _settings(module: nn.Module) -> list[tuple[nn.Module, str, object]]:
    """Plain attributes of a module that PyTorch does not define, or whose meaning nasfast does not know."""
    if type(module) in _KNOWN:
        return []
    return [
        (module, name, value)
        for name, value in module.__dict__.items()
        if isinstance(value, _PLAIN) and name != "training" and not name.startswith("_")
    ]


def kernels_take(x: Tensor) -> bool:
    """Whether there are kernels for this dtype on this device."""
    return x.dtype in _FLOATS and x.device.type in _DEVICES


def fusable_input(x: object) -> bool:
    """Whether the fused kernels take this tensor."""
    return (
        isinstance(x, Tensor)
        and x.dim() == 4
        and kernels_take(x)
        and x.numel() > 0
        and not torch.is_autocast_enabled(x.device.type)
    )
