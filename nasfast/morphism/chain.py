"""A plain chain of convolutions that the morphisms of ``chain_morphisms.py`` take and give."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor, nn

from nasfast.errors import ConfigError
from nasfast.morphism.channels import Gate


class Branch(nn.Module):
    """A convolution without bias, batch normalisation and, where ``gated``, a gate.

    Shape: [N, c_in, H, W] to [N, c_out, ceil(H / stride), ceil(W / stride)].
    """

    def __init__(self, c_in: int, c_out: int, kernel: int, stride: int, affine: bool, gated: bool = False) -> None:
        super().__init__()
        self.conv = nn.Conv2d(c_in, c_out, kernel, stride, kernel // 2, bias=False)
        self.norm = nn.BatchNorm2d(c_out, affine=affine)
        self.gate = Gate(c_out) if gated else None

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = self.norm(self.conv(x))
        return y if self.gate is None else self.gate(y)


class Block(nn.Module):
    """relu of the sum of branches, each a convolution and a BatchNorm.

    A residual one adds that to its input, through a gate that is 0 at first. (A BatchNorm whose weight is 0 would not
    learn here: relu has no gradient at 0.)

    Shape: [N, c_in, H, W] to [N, c_out, ceil(H / stride), ceil(W / stride)].
    """

    def __init__(
        self, c_in: int, c_out: int, kernel: int = 3, stride: int = 1, affine: bool = True, residual: bool = False
    ) -> None:
        super().__init__()
        self.relu = nn.ReLU()
        self.gate = Gate(c_out) if residual else None
        self.branches = nn.ModuleList([Branch(c_in, c_out, kernel, stride, affine)])

    @property
    def residual(self) -> bool:
        """Whether it adds to its input."""
        return self.gate is not None

    @property
    def first(self) -> Branch:
        """The branch that the block began with."""
        branch = self.branches[0]
        assert isinstance(branch, Branch)
        return branch

    def forward(self, x: Tensor) -> Tensor:
        total = self.branches[0](x)
        for branch in list(self.branches)[1:]:
            total = total + branch(x)
        y: Tensor = self.relu(total)
        return y if self.gate is None else x + self.gate(y)


class ChainNetwork(nn.Module):
    """Blocks in a chain, mean over the image, a linear layer.

    Value 0 is the input, value i + 1 the output of block i. A skip adds an earlier value, through a gate, to what a
    block reads (the classifier counts as the last block).

    Args:
        widths: Channels of each block.
        kernels: Odd; one, or one for each block.
        strides: One for each block; by default 1.
        affine: BatchNorms have weights.

    Attributes:
        blocks: The blocks.
        skips: Gates by "source>block".

    Shape: images [N, in_channels, H, W] to logits [N, num_classes].
    """

    def __init__(
        self,
        widths: Sequence[int],
        num_classes: int = 10,
        in_channels: int = 3,
        kernels: int | Sequence[int] = 3,
        strides: Sequence[int] | None = None,
        affine: bool = True,
    ) -> None:
        super().__init__()
        sizes = [kernels] * len(widths) if isinstance(kernels, int) else list(kernels)
        steps = [1] * len(widths) if strides is None else list(strides)
        if not widths or min(*widths, num_classes, in_channels) < 1 or len(sizes) != len(widths) != 0:
            raise ConfigError(f"chain: needs a width and a kernel for each block, got {list(widths)} and {sizes}")
        if len(steps) != len(widths) or set(steps) - {1, 2} or any(size < 1 or size % 2 == 0 for size in sizes):
            raise ConfigError(f"chain: kernels must be odd and strides 1 or 2, got {sizes} and {steps}")
        self.affine = affine
        self.blocks = nn.ModuleList()
        channels = in_channels
        for width, kernel, stride in zip(widths, sizes, steps, strict=True):
            self.blocks.append(Block(channels, width, kernel, stride, affine))
            channels = width
        self.skips = nn.ModuleDict()
        self.pool = nn.AdaptiveAvgPool2d(1)
        self.classifier = nn.Linear(channels, num_classes)

    def block(self, index: int) -> Block:
        """A block by its number."""
        if not 0 <= index < len(self.blocks):
            raise ConfigError(f"chain: block must be 0 to {len(self.blocks) - 1}, got {index}")
        found = self.blocks[index]
        assert isinstance(found, Block)
        return found

    def channels(self, value: int) -> int:
        """Channels of a value."""
        if value == 0:
            return self.block(0).first.conv.in_channels
        return self.block(value - 1).first.conv.out_channels

    def arcs(self) -> list[tuple[int, int]]:
        """(source, block) of every skip."""
        return [(int(source), int(block)) for source, block in (name.split(">") for name in self.skips)]

    def values(self, images: Tensor) -> list[Tensor]:
        """What every block reads: values with the skips added to them; last what the classifier pools."""
        outputs, read = [images], [images]
        arcs = self.arcs()
        for index, block in enumerate(self.blocks):
            outputs.append(block(read[index]))
            total = outputs[-1]
            for source, target in arcs:
                if target == index + 1:
                    total = total + self.skips[f"{source}>{target}"](outputs[source])
            read.append(total)
        return read

    def forward(self, images: Tensor) -> Tensor:
        logits: Tensor = self.classifier(self.pool(self.values(images)[-1]).flatten(1))
        return logits
