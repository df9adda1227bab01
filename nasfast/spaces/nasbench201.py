"""The NAS-Bench-201 space: one cell of four states, an operation on each of its six edges, stacked in three stages.

Dong, Yang, "NAS-Bench-201: Extending the Scope of Reproducible Neural Architecture Search", ICLR 2020.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any, ClassVar

from torch import Tensor, nn

from nasfast.errors import SpaceError
from nasfast.spaces.base import Choices, Picture, Rows, Space
from nasfast.spaces.cost import multiply_adds
from nasfast.spaces.graph import Builder, Factory, Graph
from nasfast.spaces.operations import BasicBlock, NormalisedClassifier, avg_pool_3x3, conv_bn, relu_conv_bn
from nasfast.utils.suggest import did_you_mean

OPERATIONS = ("none", "skip_connect", "nor_conv_1x1", "nor_conv_3x3", "avg_pool_3x3")
EDGES = ((0, 1), (0, 2), (1, 2), (0, 3), (1, 3), (2, 3))
"""(source, target) of the decisions, in order."""

TASKS = {"cifar10": (10, 32), "cifar100": (100, 32), "imagenet16": (120, 16)}
"""Classes, and pixels a side, of the benchmark's data sets."""


def published_flops(module: nn.Module, image: Tensor) -> tuple[int, Tensor]:
    """FLOPs as the benchmark's tables count them.

    Multiply-adds, and per value: two for normalisation, one for relu, and the window's size for pooling, where the
    window of the last pooling is taken to be one pixel larger than the image is.
    """
    extra = 0

    def count(layer: nn.Module, inputs: tuple[Tensor, ...], out: Tensor) -> None:
        nonlocal extra
        if isinstance(layer, nn.BatchNorm2d):
            extra += 2 * out.numel()
        elif isinstance(layer, nn.ReLU):
            extra += out.numel()
        elif isinstance(layer, nn.AvgPool2d):
            side = layer.kernel_size if isinstance(layer.kernel_size, int) else layer.kernel_size[0]
            extra += out.numel() * side**2
        elif isinstance(layer, nn.AdaptiveAvgPool2d):
            extra += out.numel() * (inputs[0].shape[-1] + 1) ** 2

    hooks = [layer.register_forward_hook(count) for layer in module.modules()]
    flops, result = multiply_adds(module, image)
    for hook in hooks:
        hook.remove()
    return flops + extra, result


class NASBench201(Space):
    """All 15,625 cells. Text form: the benchmark's, ``|op~0|+|op~0|op~1|+|op~0|op~1|op~2|``.

    Args:
        channels: Of the first stage; the second and third have two and four times as many.
        cells: In each stage.
    """

    operations: ClassVar[Mapping[str, Factory]] = {
        "stem": conv_bn,
        "nor_conv_1x1": relu_conv_bn,
        "nor_conv_3x3": relu_conv_bn,
        "avg_pool_3x3": avg_pool_3x3,
        "reduce": BasicBlock,
        "head": NormalisedClassifier,
    }
    keep_unused = True  # as the benchmark's networks and its parameter counts do
    fixed_wiring = True
    cell_based = True
    counter = staticmethod(published_flops)

    def __init__(self, channels: int = 16, cells: int = 5) -> None:
        super().__init__("nasbench201", {f"{source}->{target}": OPERATIONS for source, target in EDGES})
        if channels < 1 or cells < 1:
            raise SpaceError(f"{self.name}: channels and cells must be at least 1, got {channels} and {cells}")
        self.channels, self.cells = channels, cells

    def wire(self, choices: Choices, net: Builder) -> int:
        x = net.op("stem", net.input, self.channels, at="stem")
        for stage in range(3):
            if stage:
                x = net.op("reduce", x, 2 * net.channels(x), stride=2, at=f"stage{stage}/reduce")
            for cell in range(self.cells):
                x = wire_cell(choices, net, x, f"stage{stage}/cell{cell}")
        return net.op("head", x, net.num_classes, at="head")

    def canonical(self, row: Any) -> str:
        """The benchmark's own unique string, which has 6,466 values: '#' is zero, and a sum lists what it adds.

        It takes any operation of zero for zero. Some functions that are equal still have several strings: a sum of
        zeros is not seen to be zero, and a sum of sums is not sorted as one. Some that differ share one: a convolution
        used twice, and two convolutions. The form of :meth:`cell_graph` sees all three.
        """
        choices = self.choices(row)
        states = ["0"]
        for target in range(1, 4):
            terms = []
            for source in range(target):
                name, read = choices[f"{source}->{target}"], states[source]
                if name == "none" or read == "#":
                    terms.append("#")
                else:
                    terms.append(read if name == "skip_connect" else f"({read})@{name}")
            states.append("+".join(sorted(terms)))
        return states[-1]

    def cell_graph(self, row: Any) -> Graph:
        """One cell alone, as a graph."""
        net = Builder(self.operations, self.channels)
        return net.graph(wire_cell(self.choices(row), net, net.input, "cell"))

    def decode(self, row: Any) -> str:
        choices = self.choices(row)
        nodes = ["|".join(f"{choices[f'{s}->{target}']}~{s}" for s in range(target)) for target in range(1, 4)]
        return "+".join(f"|{node}|" for node in nodes)

    def encode(self, text: str) -> Rows:
        parts = re.findall(r"([a-z0-9_]+)~(\d)", text)
        row = {f"{source}->{target}": op for (source, target), (op, _) in zip(EDGES, parts, strict=False)}
        if len(parts) != len(EDGES) or {op for op, _ in parts} - set(OPERATIONS) or self._spell(row) != text.strip():
            strange = next((op for op, _ in parts if op not in OPERATIONS), None)
            raise SpaceError(
                f"{self.name}: expected |op~0|+|op~0|op~1|+|op~0|op~1|op~2| with operations {', '.join(OPERATIONS)}, "
                f"got {text[:100]!r}{did_you_mean(strange, OPERATIONS)}"
            )
        return self.row_of(row)

    def _spell(self, choices: Choices) -> str:
        return self.decode(self.row_of(choices))

    def picture(self, row: Any) -> tuple[Picture, ...]:
        arcs = tuple((op, *edge) for op, edge in zip(self.choices(row).values(), EDGES, strict=True) if op != "none")
        return (Picture("The cell", ("in", "1", "2", "out"), arcs),)


def wire_cell(choices: Choices, net: Builder, x: int, at: str) -> int:
    """Write one cell that reads node ``x``; returns its output."""
    states = [x]
    for target in range(1, 4):
        terms = []
        for source in range(target):
            name = choices[f"{source}->{target}"]
            settings = {"kernel": 3} if name == "nor_conv_3x3" else {}
            terms.append(net.op(name, states[source], at=f"{at}/{source}->{target}", **settings))
        states.append(net.sum(terms))
    return states[-1]
