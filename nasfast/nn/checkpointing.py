"""What activation checkpointing (``torch.utils.checkpoint``) asks of a fused forward."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor


class _SavedLast(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        ctx.save_for_backward(x.new_empty(0))
        return x.view_as(x)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> Tensor:
        return grad


def saved_last(out: Tensor) -> Tensor:
    """`out`, with something saved for backward after all that was done before.

    A forward that is computed again in backward ends as soon as the last tensor is there that was saved in it. An op
    saves its tensors before the running statistics are updated from its results, so it would end before that; the plain
    modules update theirs a second time.
    """
    if not out.requires_grad or torch.compiler.is_compiling() or not _is_watched():
        return out
    result: Tensor = _SavedLast.apply(out)
    return result


def _is_watched() -> bool:
    """Whether somebody follows what is saved."""
    hooks = getattr(torch._C._autograd, "_top_saved_tensors_default_hooks", None)
    return hooks is None or hooks(True) is not None
