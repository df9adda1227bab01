"""How the weights of one operation of a space are carried over to another at its place."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import nn

from nasfast.morphism.channels import (
    ChannelMap,
    Widening,
    carry_conv,
    carry_linear,
    carry_norm,
    is_depthwise,
    keeps_size,
)
from nasfast.nn.primitives import DilConv, FactorizedReduce, ReLUConvBN, SepConv
from nasfast.spaces.operations import InvertedResidual


@dataclass(frozen=True)
class Carried:
    """What came of it.

    Attributes:
        writes: The output's channels.
        preserves: Whether the child gives what the parent gives.
        inherits: Whether it has any of the parent's weights.
    """

    writes: ChannelMap
    preserves: bool
    inherits: bool


def layers_of(module: nn.Module) -> list[nn.Module] | None:
    """The layers of an operation in the order in which they are applied; None where they are no chain."""
    if isinstance(module, InvertedResidual):
        return list(module.conv)
    if isinstance(module, ReLUConvBN | SepConv | DilConv):
        return list(module.op)
    if isinstance(module, nn.Sequential):
        parts = [layers_of(part) for part in module]
        return None if None in parts else [layer for part in parts if part is not None for layer in part]
    return None if next(module.children(), None) is not None else [module]


def is_residual(module: nn.Module) -> bool:
    """Whether an operation adds its input to what its layers give."""
    return isinstance(module, InvertedResidual) and module.residual


def last_norm(module: nn.Module) -> nn.BatchNorm2d | None:
    """The BatchNorm that an operation ends with, where that has weights."""
    layers = [module.bn] if isinstance(module, FactorizedReduce) else layers_of(module)
    norm = layers[-1] if layers else None
    return norm if isinstance(norm, nn.BatchNorm2d) and norm.affine else None


@torch.no_grad()
def silence(module: nn.Module) -> bool:
    """Make the layers of an operation give zero, in train and in eval mode, where they end with a BatchNorm.

    Its weight and bias become 0; the weight has a gradient, so that the operation learns. Returns whether it could.
    """
    norm = last_norm(module)
    if norm is None:
        return False
    norm.weight.zero_()
    norm.bias.zero_()
    return True


def carry(
    parent: nn.Module,
    child: nn.Module,
    reads: ChannelMap,
    c_out: tuple[int, int],
    same: bool,
    generator: torch.Generator | None,
    widening: Widening,
) -> Carried:
    """Set the weights of ``child`` from those of ``parent``, as far as they are of one kind.

    Args:
        reads: The input's channels.
        c_out: Channels that the parent and the child give.
        same: They are one operation with equal settings.
        generator: Draws repeated channels and shares, see :class:`ChannelMap`.
        widening: What further channels are.
    """
    if same and reads.is_same:
        child.load_state_dict(parent.state_dict())
        return Carried(ChannelMap.same(c_out[1]), True, _has_weights(child))
    old, new = layers_of(parent), layers_of(child)
    if old is None or new is None or not _alike(old, new):
        return Carried(ChannelMap.to(*c_out, generator, widening), False, False)
    residual = is_residual(child)
    fits = residual == is_residual(parent)
    keeps_channels = (residual and fits) or not any(isinstance(m, nn.Linear) or _mixes(m) for m in new)
    writes = reads if keeps_channels else ChannelMap.to(*c_out, generator, widening)
    preserves = _carry_chain(old, new, reads, writes, generator, widening)
    return Carried(writes, preserves and fits, _has_weights(child))


def _alike(old: list[nn.Module], new: list[nn.Module]) -> bool:
    return len(old) == len(new) and all(_alike_layers(a, b) for a, b in zip(old, new, strict=True))


def _alike_layers(old: nn.Module, new: nn.Module) -> bool:
    """Whether two layers differ in channels and in kernels at most."""
    if type(old) is not type(new):
        return False
    if isinstance(old, nn.Conv2d) and isinstance(new, nn.Conv2d):
        names = ("stride", "dilation", "padding_mode")
        alike = all(getattr(old, name) == getattr(new, name) for name in names)
        dense = old.groups == new.groups == 1
        depthwise = is_depthwise(old) and is_depthwise(new)
        biased = (old.bias is None) == (new.bias is None)
        return alike and biased and (dense or depthwise) and keeps_size(old) and keeps_size(new)
    if isinstance(old, nn.BatchNorm2d) and isinstance(new, nn.BatchNorm2d):
        return (old.eps, old.affine, old.running_mean is None) == (new.eps, new.affine, new.running_mean is None)
    if isinstance(old, nn.Linear) and isinstance(new, nn.Linear):
        return old.out_features == new.out_features and (old.bias is None) == (new.bias is None)
    return repr(old) == repr(new) and not _has_weights(old)


def _carry_chain(
    old: list[nn.Module],
    new: list[nn.Module],
    reads: ChannelMap,
    writes: ChannelMap,
    generator: torch.Generator | None,
    widening: Widening,
) -> bool:
    """Carry layer by layer; returns whether nothing of the parent is cut off."""
    last = max((i for i, layer in enumerate(new) if _mixes(layer)), default=-1)
    current, preserves = reads, reads.keeps_all and writes.keeps_all
    for i, (a, b) in enumerate(zip(old, new, strict=True)):
        if isinstance(a, nn.Conv2d) and isinstance(b, nn.Conv2d):
            out = current
            if _mixes(b):
                hidden = a.out_channels, b.out_channels
                out = writes if i == last else ChannelMap.to(*hidden, generator, widening)
            carry_conv(a, b, current, out, generator)
            grown = all(x <= y for x, y in zip(a.kernel_size, b.kernel_size, strict=True))
            preserves = preserves and grown and out.keeps_all
            current = out
        elif isinstance(a, nn.BatchNorm2d) and isinstance(b, nn.BatchNorm2d):
            carry_norm(a, b, current)
        elif isinstance(a, nn.Linear) and isinstance(b, nn.Linear):
            carry_linear(a, b, current, generator)
            current = ChannelMap.same(b.out_features)
    return preserves


def _mixes(layer: nn.Module) -> bool:
    """Whether its output's channels are not those of its input."""
    return isinstance(layer, nn.Conv2d) and not is_depthwise(layer)


def _has_weights(module: nn.Module) -> bool:
    return next(module.parameters(), None) is not None
