"""How a layer's weights are carried over to one of other channels or a larger kernel, so that it computes the same.

A wider layer has the channels of the narrower one and more. "fresh": the others have weights of their own, as a new
layer has, and what reads them begins with weights of 0. "repeat": they repeat channels, and what reads them shares each
weight among the repeats (Chen et al., "Net2Net: Accelerating Learning via Knowledge Transfer", ICLR 2016); repeats have
equal batch statistics. Both are exact where BatchNorms are in train mode as well as in eval mode, which normalise each
channel by itself. Repeats learn much alike for long, so fresh channels are worth more. A larger kernel has zeros around
the smaller one.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from nasfast.errors import ConfigError

Widening = Literal["fresh", "repeat"]
WIDENINGS: tuple[Widening, ...] = ("fresh", "repeat")

_LEAST_DRAW = 0.25  # keeps every share of a weight away from 0


@dataclass(frozen=True)
class ChannelMap:
    """Which of the parent's channels each of the child's is, or repeats.

    Attributes:
        sources: int64 [C_child], on the CPU.
        before: Channels of the parent.
        fresh: Whether channels beyond the parent's are new, and no repeats of their sources.
    """

    sources: Tensor
    before: int
    fresh: bool = False

    @classmethod
    def same(cls, channels: int) -> ChannelMap:
        """Every channel is itself."""
        return cls(torch.arange(channels, device="cpu"), channels)

    @classmethod
    def to(
        cls, before: int, after: int, generator: torch.Generator | None = None, widening: Widening = "repeat"
    ) -> ChannelMap:
        """From ``before`` to ``after`` channels: all and others, or the first ones where they get fewer.

        Args:
            generator: Draws what is repeated; None: the channels in turn.
        """
        if after <= before:
            return cls(torch.arange(after, device="cpu"), before)
        more, fresh = after - before, widening == "fresh"
        if generator is None or fresh:
            repeats = torch.arange(more, device="cpu") % before
        else:
            repeats = torch.randint(before, (more,), generator=generator, device="cpu")
        return cls(torch.cat([torch.arange(before, device="cpu"), repeats]), before, fresh)

    @property
    def after(self) -> int:
        """Channels of the child."""
        return len(self.sources)

    @property
    def carried(self) -> int:
        """How many of the child's channels, the first ones, get the weights of their sources."""
        return self.before if self.fresh else self.after

    @property
    def keeps_all(self) -> bool:
        """Whether every channel of the parent is still there."""
        return len(self.sources.unique()) == self.before

    @property
    def is_same(self) -> bool:
        """Whether nothing changes."""
        return self.after == self.before and torch.equal(self.sources, torch.arange(self.before, device="cpu"))

    def equals(self, other: ChannelMap) -> bool:
        """Whether both are the same map."""
        return (self.before, self.fresh) == (other.before, other.fresh) and torch.equal(self.sources, other.sources)

    def shares(self, outputs: int, generator: torch.Generator | None) -> Tensor:
        """What each channel takes of a weight that read its source: float64 [outputs, C_child].

        The shares of one source add up to 1. Fresh channels take nothing. Repeats take equal shares without a
        generator; with one they are drawn, so that repeats, which are alike, get different gradients.
        """
        size = (outputs, self.after)
        if self.fresh:
            return (torch.arange(self.after, device="cpu") < self.before).double().expand(size)
        if generator is None:
            draws = torch.ones(size, dtype=torch.float64, device="cpu")
        else:
            draws = torch.rand(size, generator=generator, dtype=torch.float64, device="cpu")
            draws = _LEAST_DRAW + (1 - _LEAST_DRAW) * draws
        totals = torch.zeros(outputs, self.before, dtype=torch.float64, device="cpu")
        totals.index_add_(1, self.sources, draws)
        return draws / totals[:, self.sources]


def check_widening(where: str, widening: str) -> None:
    """Raise ConfigError where there is no such widening."""
    if widening not in WIDENINGS:
        raise ConfigError(f"{where}: widening must be {' or '.join(WIDENINGS)}, got {widening!r}")


def is_depthwise(conv: nn.Conv2d) -> bool:
    """Whether every channel is convolved on its own."""
    return conv.groups == conv.in_channels == conv.out_channels and conv.groups > 1


def keeps_size(conv: nn.Conv2d) -> bool:
    """Whether its padding makes up for its kernel: the image keeps its size, or is divided by the stride."""
    if isinstance(conv.padding, str):
        return False
    sides = zip(conv.kernel_size, conv.padding, conv.dilation, strict=True)
    return all(size % 2 == 1 and 2 * pad == dilation * (size - 1) for size, pad, dilation in sides)


def fit_kernel(weight: Tensor, kernel: tuple[int, ...]) -> Tensor:
    """Kernels [..., H, W] with zeros around them, or their middle, to be of another odd size."""
    (height, width), (had_height, had_width) = kernel, weight.shape[-2:]
    rows, columns = (height - had_height) // 2, (width - had_width) // 2
    return F.pad(weight, (columns, columns, rows, rows))


@torch.no_grad()
def carry_conv(
    parent: nn.Conv2d, child: nn.Conv2d, reads: ChannelMap, writes: ChannelMap, generator: torch.Generator | None
) -> None:
    """Set a convolution's weights from another's, which is as dense or as depthwise.

    Args:
        reads, writes: Of its input's and its output's channels. Fresh ones of the output keep the child's weights.
        generator: See :meth:`ChannelMap.shares`.
    """
    sources = writes.sources[: writes.carried]
    weight = parent.weight[sources]
    if not is_depthwise(parent):
        weight = _read(weight, reads, generator)
    child.weight[: writes.carried] = fit_kernel(weight, child.kernel_size)
    if parent.bias is not None and child.bias is not None:
        child.bias[: writes.carried] = parent.bias[sources]


@torch.no_grad()
def carry_linear(parent: nn.Linear, child: nn.Linear, reads: ChannelMap, generator: torch.Generator | None) -> None:
    """Set a linear layer's weights from another's of as many outputs."""
    child.weight.copy_(_read(parent.weight, reads, generator))
    if parent.bias is not None and child.bias is not None:
        child.bias.copy_(parent.bias)


@torch.no_grad()
def carry_norm(parent: nn.BatchNorm2d, child: nn.BatchNorm2d, writes: ChannelMap) -> None:
    """Set a BatchNorm's weights and running statistics from another's. Fresh channels keep the child's."""
    sources = writes.sources[: writes.carried]
    for name in ("weight", "bias", "running_mean", "running_var"):
        values, old = getattr(child, name), getattr(parent, name)
        if values is not None and old is not None:
            values[: writes.carried] = old[sources]
    if child.num_batches_tracked is not None and parent.num_batches_tracked is not None:
        child.num_batches_tracked.copy_(parent.num_batches_tracked)


def _read(weight: Tensor, reads: ChannelMap, generator: torch.Generator | None) -> Tensor:
    """Weights [O, I, ...] for the channels that are read now."""
    if reads.is_same:
        return weight
    shares = reads.shares(weight.shape[0], generator).to(weight.dtype).to(weight.device)
    return weight[:, reads.sources] * shares.reshape(*shares.shape, *[1] * (weight.dim() - 2))


class Gate(nn.Module):
    """A factor per channel that starts at 0: what passes through it is nothing at first, and learns to be something.

    Shape: [N, channels, H, W] to the same.
    """

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.zeros(channels))

    def forward(self, x: Tensor) -> Tensor:
        return x * self.weight[:, None, None]
