"""Operations that the search spaces choose from. A factory takes input channels, output channels and stride."""

from __future__ import annotations

from torch import Tensor, nn

from nasfast.errors import SpaceError
from nasfast.nn.primitives import FactorizedReduce, ReLUConvBN, build_primitive


def conv_bn(c_in: int, c_out: int, stride: int, kernel: int = 3) -> nn.Module:
    """A dense convolution without bias, batch normalisation."""
    return nn.Sequential(
        nn.Conv2d(c_in, c_out, kernel, stride, kernel // 2, bias=False),
        nn.BatchNorm2d(c_out),
    )


def conv_bn_relu6(c_in: int, c_out: int, stride: int, kernel: int = 3) -> nn.Module:
    """A dense convolution without bias, batch normalisation, relu6."""
    return nn.Sequential(*conv_bn(c_in, c_out, stride, kernel).children(), nn.ReLU6(inplace=True))


def relu_conv_bn(c_in: int, c_out: int, stride: int, kernel: int = 1) -> nn.Module:
    """relu, a dense convolution without bias, batch normalisation."""
    return ReLUConvBN(c_in, c_out, kernel, stride, kernel // 2)


def batch_norm(c_in: int, c_out: int, stride: int) -> nn.Module:
    """Batch normalisation."""
    return nn.BatchNorm2d(_kept("batch_norm", c_in, c_out, stride))


def avg_pool_3x3(c_in: int, c_out: int, stride: int) -> nn.Module:
    """Average of 3x3 pixels, the padding not counted."""
    _kept("avg_pool_3x3", c_in, c_out, 1)
    return nn.AvgPool2d(3, stride, 1, count_include_pad=False)


def max_pool_3x3(c_in: int, c_out: int, stride: int) -> nn.Module:
    """Largest of 3x3 pixels."""
    _kept("max_pool_3x3", c_in, c_out, 1)
    return nn.MaxPool2d(3, stride, 1)


def factorized_reduce(c_in: int, c_out: int, stride: int) -> nn.Module:
    """Halve the image by two shifted 1x1 convolutions, each for half of the channels."""
    if stride != 2:
        raise SpaceError(f"factorized_reduce: stride must be 2, got {stride}")
    return FactorizedReduce(c_in, c_out)


def primitive(c_in: int, c_out: int, stride: int, *, name: str) -> nn.Module:
    """An operation of the DARTS family, as :func:`nasfast.nn.primitives.build_primitive` makes it."""
    return build_primitive(name, _kept(name, c_in, c_out, 1), stride, affine=True)


class InvertedResidual(nn.Module):
    """1x1 expansion, depthwise convolution, 1x1 projection, each normalised; added to the input where shapes allow.

    Sandler et al., "MobileNetV2: Inverted Residuals and Linear Bottlenecks", CVPR 2018.

    Shape: [N, c_in, H, W] to [N, c_out, ceil(H / stride), ceil(W / stride)].
    """

    def __init__(self, c_in: int, c_out: int, stride: int, kernel: int = 3, expansion: int = 6) -> None:
        super().__init__()
        hidden = c_in * expansion
        self.residual = stride == 1 and c_in == c_out
        expand = [*conv_bn_relu6(c_in, hidden, 1, 1).children()] if expansion > 1 else []
        self.conv = nn.Sequential(
            *expand,
            nn.Conv2d(hidden, hidden, kernel, stride, kernel // 2, groups=hidden, bias=False),
            nn.BatchNorm2d(hidden),
            nn.ReLU6(inplace=True),
            *conv_bn(hidden, c_out, 1, 1).children(),
        )

    def forward(self, x: Tensor) -> Tensor:
        return x + self.conv(x) if self.residual else self.conv(x)


class BasicBlock(nn.Module):
    """Two 3x3 convolutions and a pooled 1x1 shortcut: the block that halves the image in NAS-Bench-201.

    He et al., "Deep Residual Learning for Image Recognition", CVPR 2016.

    Shape: [N, c_in, H, W] to [N, c_out, ceil(H / 2), ceil(W / 2)].
    """

    def __init__(self, c_in: int, c_out: int, stride: int) -> None:
        super().__init__()
        if stride != 2:
            raise SpaceError(f"basic_block: stride must be 2, got {stride}")
        self.conv_a = relu_conv_bn(c_in, c_out, 2, 3)
        self.conv_b = relu_conv_bn(c_out, c_out, 1, 3)
        self.shortcut = nn.Sequential(nn.AvgPool2d(2, 2, ceil_mode=True), nn.Conv2d(c_in, c_out, 1, bias=False))

    def forward(self, x: Tensor) -> Tensor:
        return self.shortcut(x) + self.conv_b(self.conv_a(x))


class Classifier(nn.Sequential):
    """Mean over the image, linear layer: [N, c_in, H, W] to [N, c_out]."""

    def __init__(self, c_in: int, c_out: int, stride: int = 1) -> None:
        super().__init__(nn.AdaptiveAvgPool2d(1), nn.Flatten(1), nn.Linear(c_in, c_out))


class NormalisedClassifier(nn.Sequential):
    """Batch normalisation, relu, mean over the image, linear layer: [N, c_in, H, W] to [N, c_out]."""

    def __init__(self, c_in: int, c_out: int, stride: int = 1) -> None:
        super().__init__(nn.BatchNorm2d(c_in), nn.ReLU(inplace=True), *Classifier(c_in, c_out).children())


def _kept(name: str, c_in: int, c_out: int, stride: int) -> int:
    """The number of channels of an operation that cannot change it."""
    if c_in != c_out or stride != 1:
        raise SpaceError(f"{name} keeps channels and size, got {c_in} to {c_out} channels, stride {stride}")
    return c_in
