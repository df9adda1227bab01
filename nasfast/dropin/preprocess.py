"""The fused forward of a cell's pre-processing: relu, one or two pointwise convolutions, batch normalisation."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from nasfast.dropin.alone import PROBE_SIZE, Unrecognised
from nasfast.dropin.call_guard import Guard, fusable_input
from nasfast.dropin.forward import FusedForward
from nasfast.dropin.probe import MakeArguments
from nasfast.dropin.reads import Reads
from nasfast.dropin.recognise import read_preprocessing
from nasfast.nn.fused import ParamList, run_preprocess


class FusedPreprocess(FusedForward):
    """Stands for `forward` of a module that a cell sends an input through before its mixed operations."""

    autocast_images = (torch.float32, torch.bfloat16)

    def __init__(self, module: nn.Module) -> None:
        if "forward" in module.__dict__:
            raise Unrecognised("it has a forward of its own on the instance")
        leaves = read_preprocessing(module)
        self.module = module
        self.layers = ParamList(leaves)
        self.halves = len(self.layers.convs) == 2
        self.channels = self.layers.convs[0].in_channels
        self.guard = Guard(
            [module], [child for child in module._modules.values() if child is not None], self.layers.norms
        )
        self.reads = Reads(module)
        self.kind = "pre-processing that halves the size" if self.halves else "pre-processing"

    def holds(self) -> bool:
        return self.guard.holds() and self.reads.same()

    def same_reads(self) -> bool:
        return self.reads.same()

    def fused(self, *args: Any, **kwargs: Any) -> Tensor | None:
        x = args[0] if len(args) == 1 and not kwargs else None
        if not self.holds() or not fusable_input(x):
            return None
        assert isinstance(x, Tensor)
        if x.shape[1] != self.channels or (self.halves and (x.shape[2] % 2 or x.shape[3] % 2)):
            return None
        if not self.fits_autocast(x, args, kwargs):
            return None
        return run_preprocess(self.layers, x, recompute=False)

    def arguments(self) -> MakeArguments:
        """Random images to probe it with."""

        def make(like: Tensor) -> tuple[Any, ...]:
            shape = (2, self.channels, PROBE_SIZE, PROBE_SIZE + 2)
            return (torch.randn(shape, dtype=like.dtype, device=like.device).requires_grad_(),)

        return make
