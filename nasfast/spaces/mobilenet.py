"""Chains of inverted residuals: stages with a depth and a width, blocks with a kernel size and an expansion.

The choices of Cai et al., "Once-for-All: Train One Network and Specialize it for Efficient Deployment", ICLR 2020, on
the blocks of Sandler et al., "MobileNetV2: Inverted Residuals and Linear Bottlenecks", CVPR 2018.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

import numpy as np

from nasfast.errors import SpaceError
from nasfast.spaces.base import Choices, Picture, Rows, Space
from nasfast.spaces.graph import Builder, Factory
from nasfast.spaces.operations import Classifier, InvertedResidual, conv_bn_relu6

STAGES = ((24, 1), (40, 2), (80, 2), (160, 2))
"""Channels at width 1, and stride of the first block, for images of 32 pixels a side."""


class MobileNetSpace(Space):
    """Inverted residuals in a chain. Blocks beyond a stage's depth do not exist, whatever is chosen for them.

    Args:
        stages: (channels, stride) of each stage.
        depths: Blocks of a stage.
        widths: Factors of a stage's channels, which are rounded to a multiple of 8.
        kernels, expansions: Of a block.
        stem, features: Channels before the first stage, and after the last.
        image_size: Pixels a side that costs are counted for.
    """

    operations: ClassVar[Mapping[str, Factory]] = {
        "stem": conv_bn_relu6,
        "mb": InvertedResidual,
        "features": conv_bn_relu6,
        "head": Classifier,
    }
    elastic = True

    def __init__(
        self,
        stages: Sequence[tuple[int, int]] = STAGES,
        depths: Sequence[int] = (2, 3, 4),
        widths: Sequence[float] = (0.75, 1.0, 1.25),
        kernels: Sequence[int] = (3, 5, 7),
        expansions: Sequence[int] = (3, 4, 6),
        stem: int = 16,
        features: int = 1280,
        image_size: int = 32,
    ) -> None:
        decisions: dict[str, Sequence[Any]] = {}
        for stage in range(len(stages)):
            decisions[f"stage{stage}.depth"] = depths
            decisions[f"stage{stage}.width"] = widths
            for block in range(max(depths, default=0)):
                decisions[f"stage{stage}.block{block}.kernel"] = kernels
                decisions[f"stage{stage}.block{block}.expansion"] = expansions
        super().__init__("mobilenet", decisions)
        for name, values, low in (("depths", depths, 1), ("kernels", kernels, 1), ("expansions", expansions, 1)):
            if min(values) < low or (name == "kernels" and any(kernel % 2 == 0 for kernel in values)):
                kind = "odd and at least 1" if name == "kernels" else f"at least {low}"
                raise SpaceError(f"mobilenet: {name} must be {kind}, got {list(values)}")
        if min(widths) <= 0 or any(channels < 1 or stride not in (1, 2) for channels, stride in stages):
            raise SpaceError("mobilenet: widths and channels must be above 0, the stride of a stage 1 or 2")
        if min(stem, features, image_size) < 1:
            raise SpaceError("mobilenet: stem, features and image_size must be at least 1")
        self.stages, self.stem, self.features = tuple(stages), stem, features
        self.image_size = image_size

    def wire(self, choices: Choices, net: Builder) -> int:
        x = net.op("stem", net.input, self.stem, at="stem")
        for number, (base, stride) in enumerate(self.stages):
            stage = f"stage{number}"
            channels = max(8, round(base * choices[f"{stage}.width"] / 8) * 8)
            for block in range(choices[f"{stage}.depth"]):
                at = f"{stage}.block{block}"
                settings = {"kernel": choices[f"{at}.kernel"], "expansion": choices[f"{at}.expansion"]}
                x = net.op("mb", x, channels, 1 if block else stride, at=at, **settings)
        x = net.op("features", x, self.features, at="features", kernel=1)
        return net.op("head", x, net.num_classes, at="head")

    def covering_rows(self) -> Rows:
        """Every width after every other one, with every kernel size and expansion; all blocks are wired."""
        sizes = {decision.name: len(decision.values) for decision in self.decisions}
        widths, kernels, expansions = (
            sizes[f"stage0.{name}"] for name in ("width", "block0.kernel", "block0.expansion")
        )
        deepest = int(np.argmax(self.decisions[0].values))
        rows = []
        for even, odd, kernel, expansion in np.ndindex(widths, widths, kernels, expansions):
            row = []
            for name in sizes:
                stage, _, last = name.partition(".")
                width = odd if int(stage.removeprefix("stage")) % 2 else even
                chosen = {"depth": deepest, "width": width, "kernel": kernel, "expansion": expansion}
                row.append(chosen[last.rpartition(".")[2]])
            rows.append(row)
        return np.array(rows, np.int64)

    def picture(self, row: Any) -> tuple[Picture, ...]:
        choices = self.choices(row)
        pictures = []
        for number in range(len(self.stages)):
            stage = f"stage{number}"
            depth = choices[f"{stage}.depth"]
            arcs = []
            for block in range(depth):
                at = f"{stage}.block{block}"
                arcs.append((f"mb_e{choices[f'{at}.expansion']}_k{choices[f'{at}.kernel']}", block, block + 1))
            title = f"Stage {number}, width {choices[f'{stage}.width']}"
            states = ("in", *(str(block) for block in range(1, depth)), "out")
            pictures.append(Picture(title, states, tuple(arcs)))
        return tuple(pictures)
