"""A fused forward that stands on a foreign module in the place of its own."""

from __future__ import annotations

import sys
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch._compile import _disable_dynamo  # torch.compiler.disable, without the seconds that its import takes

from nasfast.dropin.call_guard import call_signature, in_autocast
from nasfast.dropin.trace import class_forward


class FusedForward(ABC):
    """Stands for `forward` of `module`: fused where a call fits, the module's own where it does not.

    torch.compile leaves it as it is, between what it compiles: watching a module is no code for a compiler.
    """

    module: nn.Module
    kind: str
    """What it is, for the report."""
    autocast_images: tuple[torch.dtype, ...] = (torch.bfloat16,)
    """The dtypes of images to try under autocast: behind a convolution or a normalisation they are bfloat16."""
    autocast_calls: frozenset[object] = frozenset()
    """Signatures of the calls that gave what the module's own forward gives, dtype and all, under autocast."""

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        if _is_transformed():
            return self.original(*args, **kwargs)
        if torch.compiler.is_compiling() or "torch._dynamo" in sys.modules:
            return self._not_compiled(*args, **kwargs)
        return self._watched(*args, **kwargs)  # nothing can be compiling, and loading it would take seconds

    def _watched(self, *args: Any, **kwargs: Any) -> Any:
        out = self.fused(*args, **kwargs)
        return self.original(*args, **kwargs) if out is None else out

    @_disable_dynamo
    def _not_compiled(self, *args: Any, **kwargs: Any) -> Any:
        return self._watched(*args, **kwargs)

    def original(self, *args: Any, **kwargs: Any) -> Any:
        return class_forward(self.module, args, kwargs)

    @abstractmethod
    def holds(self) -> bool:
        """Whether the module still is what was fused."""

    @abstractmethod
    def same_reads(self) -> bool:
        """Whether all that was fused reads what it read then, beside its arguments and parameters."""

    def fits_autocast(self, x: Tensor, args: Sequence[Any], kwargs: Mapping[str, Any]) -> bool:
        """Whether no autocast is on where `x` is, or this call was tried under it and nothing has changed since."""
        return not in_autocast(x) or (call_signature(args, kwargs) in self.autocast_calls and self.same_reads())

    @abstractmethod
    def fused(self, *args: Any, **kwargs: Any) -> Tensor | None:
        """The fused result, or None where this call is one for the module's own forward."""


def _is_transformed() -> bool:
    """Whether a call is exported, or differentiated or mapped by torch.func, which take what PyTorch itself has."""
    return torch.compiler.is_exporting() or torch._C._are_functorch_transforms_active()


class _Replicate:
    """Stands for the method by which DataParallel copies a module: the copy runs its own forward.

    A fused forward reads the weights of one module. On a copy it would go on reading those of the original.
    """

    def __init__(self, module: nn.Module) -> None:
        self.module = module

    def __call__(self) -> nn.Module:
        replica = type(self.module)._replicate_for_data_parallel(self.module)
        for name in ("forward", "_replicate_for_data_parallel"):
            del replica.__dict__[name]
        return replica


def install(fused: FusedForward) -> None:
    fused.module.__dict__["forward"] = fused
    fused.module.__dict__["_replicate_for_data_parallel"] = _Replicate(fused.module)


def uninstall(module: nn.Module) -> None:
    """Give a module with a fused forward its own again."""
    for name in ("forward", "_replicate_for_data_parallel"):
        module.__dict__.pop(name, None)


def installed(module: nn.Module) -> FusedForward | None:
    """The fused forward that stands on `module`."""
    forward = module.__dict__.get("forward")
    return forward if isinstance(forward, FusedForward) else None
