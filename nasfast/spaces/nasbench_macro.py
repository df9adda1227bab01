"""The NAS-Bench-Macro space: eight layers in a chain, each an identity or one of two inverted residuals.

Su et al., "Prioritized Architecture Sampling with Monto-Carlo Tree Search", CVPR 2021.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any, ClassVar

from nasfast.errors import SpaceError
from nasfast.spaces.base import Choices, Picture, Rows, Space
from nasfast.spaces.graph import Builder, Factory
from nasfast.spaces.operations import Classifier, InvertedResidual, conv_bn, conv_bn_relu6

LAYERS = ((64, 2), (64, 1), (128, 2), (128, 1), (128, 1), (256, 2), (256, 1), (256, 1))
"""Channels and stride of each layer."""

OPERATIONS = ("identity", "mb_e3_k3", "mb_e6_k5")
_SETTINGS: dict[str, dict[str, int]] = {
    "identity": {"kernel": 1},
    "mb_e3_k3": {"expansion": 3, "kernel": 3},
    "mb_e6_k5": {"expansion": 6, "kernel": 5},
}


class NASBenchMacro(Space):
    """All 6,561 chains, 3,969 of them distinct. Text form: the benchmark's, one digit per layer.

    An identity that has to halve the image is a 1x1 convolution of stride 2 with batch normalisation.

    Args:
        width: Factor of all channels, which are rounded to a multiple of 8.
    """

    operations: ClassVar[Mapping[str, Factory]] = {
        "stem": conv_bn_relu6,
        "identity": conv_bn,
        "mb_e3_k3": InvertedResidual,
        "mb_e6_k5": InvertedResidual,
        "features": conv_bn_relu6,
        "head": Classifier,
    }

    fixed_wiring = True

    def __init__(self, width: float = 1.0) -> None:
        super().__init__("nasbench-macro", {f"layer{i}": OPERATIONS for i in range(len(LAYERS))})
        if not 0 < width < math.inf:
            raise SpaceError(f"{self.name}: width must be above 0, got {width}")
        self.width = width

    def _scaled(self, channels: int) -> int:
        return max(8, round(channels * self.width / 8) * 8)

    def wire(self, choices: Choices, net: Builder) -> int:
        x = net.op("stem", net.input, self._scaled(32), at="stem")
        for (channels, stride), (layer, name) in zip(LAYERS, choices.items(), strict=True):
            x = net.op(name, x, self._scaled(channels), stride, at=layer, **_SETTINGS[name])
        x = net.op("features", x, self._scaled(1280), at="features", kernel=1)
        return net.op("head", x, net.num_classes, at="head")

    def decode(self, row: Any) -> str:
        return "".join(str(choice) for choice in self.check(row)[0].tolist())

    def encode(self, text: str) -> Rows:
        digits = text.strip()
        if len(digits) != len(LAYERS) or set(digits) - set("012"):
            raise SpaceError(f"{self.name}: expected {len(LAYERS)} digits of 0, 1, 2, got {text[:60]!r}")
        return self.check([int(digit) for digit in digits])[0]

    def picture(self, row: Any) -> tuple[Picture, ...]:
        chosen = self.choices(row).values()
        states = ("in", *(str(i) for i in range(1, len(LAYERS))), "out")
        return (Picture("The layers", states, tuple((name, i, i + 1) for i, name in enumerate(chosen))),)
