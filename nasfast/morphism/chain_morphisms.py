"""Morphisms of plain chains: pure functions from a network to a larger one that computes the same.

Chen et al., "Net2Net", ICLR 2016 (wider, deeper); Wei et al., "Network Morphism", ICML 2016 (kernels, skips, branches).
Each returns a copy in the mode of the network, which stays as it is. Outputs are equal up to rounding, with BatchNorm
in train mode and in eval mode, but for :func:`deepen` with ``how="identity"``, which says what it keeps.
"""

from __future__ import annotations

import copy
from typing import Literal, TypeVar

import torch
from torch import Tensor, nn

from nasfast.errors import ConfigError
from nasfast.morphism.chain import Block, Branch, ChainNetwork
from nasfast.morphism.channels import ChannelMap, Gate, Widening, carry_conv, carry_linear, carry_norm, check_widening

_Module = TypeVar("_Module", bound=nn.Module)


def widen(
    network: ChainNetwork,
    block: int,
    channels: int,
    generator: torch.Generator | None = None,
    how: Widening = "fresh",
) -> ChainNetwork:
    """Give a block more channels. Blocks whose outputs are added to its output become as wide.

    Args:
        generator: Of "repeat": draws what is repeated and the shares, so that repeats get different gradients and part
            ways. None: channels in turn, equal shares; equal repeats then stay equal.
        how: "fresh": the channels have new weights, and what reads them begins with weights of 0. "repeat": they repeat
            those that the block has, and what reads them shares its weights among the repeats, as in Net2Net.

    Raises:
        ConfigError: No such block, not more channels than it has, the images would have to be wider, or no such way.
    """
    check_widening("widen", how)
    child, before = copy.deepcopy(network), network.block(block).first.conv.out_channels
    if channels <= before:
        raise ConfigError(f"widen: block {block} has {before} channels, expected more, got {channels}")
    tied = _tied_values(network, block + 1)
    if 0 in tied:
        raise ConfigError(f"widen: the output of block {block} is added to the images, which have {before} channels")
    wider = ChannelMap.to(before, channels, generator, how)
    maps = [wider if v in tied else ChannelMap.same(network.channels(v)) for v in range(len(network.blocks) + 1)]
    for index in range(len(network.blocks)):
        if index in tied or index + 1 in tied:
            _carry_block(network.block(index), child.block(index), maps[index], maps[index + 1], generator)
    for source, target in network.arcs():
        if source in tied:
            name = f"{source}>{target}"
            child.skips[name] = _wider_gate(network.skips[name], wider)
    if len(network.blocks) in tied:
        child.classifier = _like(network.classifier, nn.Linear(channels, network.classifier.out_features))
        carry_linear(network.classifier, child.classifier, wider, generator)
    return child.train(network.training)


def deepen(
    network: ChainNetwork,
    after: int,
    how: Literal["residual", "identity"] = "residual",
    kernel: int = 3,
    images: Tensor | None = None,
) -> ChainNetwork:
    """Put a block of as many channels behind a block.

    Args:
        how: "residual": the block adds to its input, through a gate of 0. Equal in train and in eval mode. "identity":
            a convolution that is the identity, as in Net2Net, whose BatchNorm undoes itself: its running statistics,
            and its bias and weight, are mean and deviation of what it reads on ``images``. Equal in eval mode on any
            images; in train mode on these as a batch, and on others up to how their statistics differ: BatchNorm
            normalises by the batch, which no constant undoes.
        kernel: Of the new block.
        images: [N, in_channels, H, W] for "identity", normalised as in training.

    Raises:
        ConfigError: No such block, or "identity" without images, with BatchNorms without weights, or behind a block
            whose output may be negative, which relu would not let pass.
    """
    child, width, affine = copy.deepcopy(network), network.block(after).first.conv.out_channels, network.affine
    _check_kernel("deepen", kernel)
    block = _like(network, Block(width, width, kernel, 1, affine, residual=how == "residual"))
    if how == "identity":
        _check_identity(network, after, images)
        assert images is not None
        nn.init.dirac_(block.first.conv.weight)
        _undo_norm(block.first.norm, copy.deepcopy(network), after, images)
    elif how != "residual":
        raise ConfigError(f"deepen: how must be residual or identity, got {how!r}")
    blocks = list(child.blocks)
    child.blocks = nn.ModuleList([*blocks[: after + 1], block, *blocks[after + 1 :]])
    # What was added to the output of the block before is added to that of the new one, which reads it bare.
    moved = {f"{_behind(s, after + 1)}>{_behind(t, after)}": network.skips[f"{s}>{t}"] for s, t in network.arcs()}
    child.skips = nn.ModuleDict({name: copy.deepcopy(gate) for name, gate in moved.items()})
    return child.train(network.training)


def grow_kernel(network: ChainNetwork, block: int, kernel: int) -> ChainNetwork:
    """Give a block's first convolution a larger kernel, with zeros around the old one.

    Raises:
        ConfigError: No such block, or the kernel is even or not larger.
    """
    _check_kernel("grow_kernel", kernel)
    child, old = copy.deepcopy(network), network.block(block).first.conv
    if kernel <= old.kernel_size[0]:
        raise ConfigError(f"grow_kernel: block {block} has a kernel of {old.kernel_size[0]}, expected a larger one")
    new = nn.Conv2d(old.in_channels, old.out_channels, kernel, old.stride[0], kernel // 2, bias=False)
    child.block(block).first.conv = _like(old, new)
    same = ChannelMap.same(old.in_channels), ChannelMap.same(old.out_channels)
    carry_conv(old, new, *same, None)
    return child


def add_skip(network: ChainNetwork, source: int, block: int) -> ChainNetwork:
    """Add the output of block ``source`` to what block ``block`` reads, through a gate of 0.

    Args:
        block: A later one; as many as there are blocks: the classifier.

    Raises:
        ConfigError: No such blocks, one that is there already, or outputs of different channels or sizes.
    """
    network.block(source)
    if not source + 1 < block <= len(network.blocks):
        raise ConfigError(f"add_skip: block must be {source + 2} to {len(network.blocks)}, got {block}")
    name, channels = f"{source + 1}>{block}", network.channels(source + 1)
    strides = [network.block(i).first.conv.stride[0] for i in range(source + 1, block)]
    if name in network.skips or channels != network.channels(block) or max(strides) > 1:
        why = "it is there" if name in network.skips else "channels and size must be equal"
        raise ConfigError(f"add_skip: no skip from block {source} to {block}: {why}")
    child = copy.deepcopy(network)
    child.skips[name] = _like(network, Gate(channels))
    return child


def add_branch(network: ChainNetwork, block: int, kernel: int = 1) -> ChainNetwork:
    """Give a block a further convolution and BatchNorm beside the others; the BatchNorm's weight (or a gate) is 0.

    Raises:
        ConfigError: No such block, or the kernel is even.
    """
    _check_kernel("add_branch", kernel)
    child, conv = copy.deepcopy(network), network.block(block).first.conv
    branch = Branch(conv.in_channels, conv.out_channels, kernel, conv.stride[0], network.affine, not network.affine)
    if network.affine:
        nn.init.zeros_(branch.norm.weight)
    child.block(block).branches.append(_like(network, branch))
    return child.train(network.training)


def _tied_values(network: ChainNetwork, value: int) -> set[int]:
    """Values that have to have the channels of this one, because they are added to it."""
    pairs = [(i, i + 1) for i in range(len(network.blocks)) if network.block(i).residual]
    pairs += network.arcs()
    tied = {value}
    for _ in pairs:
        for one, other in pairs:
            if one in tied or other in tied:
                tied |= {one, other}
    return tied


def _carry_block(
    old: Block, new: Block, reads: ChannelMap, writes: ChannelMap, generator: torch.Generator | None
) -> None:
    for index, before in enumerate(old.branches):
        assert isinstance(before, Branch)
        conv = before.conv
        size, stride, affine = conv.kernel_size[0], conv.stride[0], before.norm.affine
        after = _like(conv, Branch(reads.after, writes.after, size, stride, affine))
        carry_conv(conv, after.conv, reads, writes, generator)
        carry_norm(before.norm, after.norm, writes)
        if before.gate is not None:
            after.gate = _wider_gate(before.gate, writes)
        new.branches[index] = after
    if old.gate is not None:
        new.gate = _wider_gate(old.gate, writes)


@torch.no_grad()
def _wider_gate(gate: nn.Module, writes: ChannelMap) -> Gate:
    """With open gates for fresh channels: a weight of 0 behind a gate of 0 would never learn."""
    assert isinstance(gate, Gate)
    wider = _like(gate, Gate(writes.after))
    wider.weight.fill_(1)
    wider.weight[: writes.carried] = gate.weight[writes.sources[: writes.carried]]
    return wider


def _check_identity(network: ChainNetwork, after: int, images: Tensor | None) -> None:
    if images is None or not network.affine:
        raise ConfigError("deepen: how=identity needs images, and BatchNorms with weights; see how=residual")
    if not _is_positive(network, after):
        raise ConfigError("deepen: how=identity needs an output that is not negative; see how=residual")


def _is_positive(network: ChainNetwork, block: int) -> bool:
    """Whether a block's output is at least 0 whatever the weights."""
    if not network.block(block).residual:
        return True
    skipped_to = any(target == block for _, target in network.arcs())
    return block > 0 and not skipped_to and _is_positive(network, block - 1)


@torch.no_grad()
def _undo_norm(norm: nn.BatchNorm2d, network: ChainNetwork, after: int, images: Tensor) -> None:
    """Let a BatchNorm give what it reads, where that is the output of block ``after`` on these images."""
    outputs: list[Tensor] = []
    network.block(after).register_forward_hook(lambda _, __, out: outputs.append(out))
    network.train()(images)
    spread, mean = torch.var_mean(outputs[0], (0, 2, 3), correction=0)
    assert norm.running_mean is not None
    assert norm.running_var is not None
    norm.running_mean.copy_(mean)
    norm.running_var.copy_(spread)
    norm.bias.copy_(mean)
    norm.weight.copy_((spread + norm.eps).sqrt())


def _behind(value: int, after: int) -> int:
    """The number that a value or a block has once a block was put behind block ``after - 1``."""
    return value + 1 if value > after else value


def _check_kernel(where: str, kernel: int) -> None:
    if kernel < 1 or kernel % 2 == 0:
        raise ConfigError(f"{where}: kernel must be odd and at least 1, got {kernel}")


def _like(other: nn.Module, module: _Module) -> _Module:
    """The module on the device, and in the dtype, of another."""
    return module.to(next(other.parameters()))
