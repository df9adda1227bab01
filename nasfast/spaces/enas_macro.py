"""Multi-branch spaces: layers in a row, each of one or several branches, with skips from any earlier layer.

Pham et al., "Efficient Neural Architecture Search via Parameter Sharing", ICML 2018, the macro space; with ``cell``,
the layers are cells that are searched too.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

import numpy as np

from nasfast.errors import SpaceError
from nasfast.spaces.base import Choices, Picture, Rows, Space
from nasfast.spaces.cells import CellSpace, nasnet
from nasfast.spaces.genotype import Genotype
from nasfast.spaces.graph import Builder, Factory
from nasfast.spaces.operations import batch_norm, factorized_reduce, relu_conv_bn

OPERATIONS = ("conv_3x3", "conv_5x5", "sep_conv_3x3", "sep_conv_5x5", "avg_pool_3x3", "max_pool_3x3")
_KERNELS = {"conv_3x3": 3, "conv_5x5": 5}


class MultiBranchSpace(Space):
    """A layer adds its branches, which read the layer before, and the earlier layers it skips to, and normalises.

    After one and two thirds of the layers the image is halved, the channels are doubled, and so are those of every
    earlier layer that may still be skipped to.

    Args:
        layers: At least 3.
        branches: Of a layer; every one but the first may be "none".
        channels: Of the first layers.
        cell: Search this cell too and make every layer of it: the normal cell, and the reduction cell where the image
            is halved. Layers have no operations of their own then.
    """

    operations: ClassVar[Mapping[str, Factory]] = {
        **CellSpace.operations,
        "conv_3x3": relu_conv_bn,
        "conv_5x5": relu_conv_bn,
        "batch_norm": batch_norm,
        "halve": factorized_reduce,
        "fit": relu_conv_bn,
    }

    def __init__(self, layers: int = 12, branches: int = 1, channels: int = 36, cell: CellSpace | None = None) -> None:
        name = "enas-macro" if cell is None else f"{cell.name}-macro"
        if layers < 3 or branches < 1 or channels < 2 or (cell is not None and branches > 1):
            raise SpaceError(f"{name}: needs 3 layers, 1 branch and 2 channels at least, and 1 branch with a cell")
        self.layers, self.branches, self.channels, self.cell = layers, branches, channels, cell
        decisions: dict[str, Sequence[Any]] = {}
        if cell is not None:
            decisions |= {decision.name: decision.values for decision in cell.decisions}
        for layer in range(layers):
            for branch in range(branches if cell is None else 0):
                decisions[f"layer{layer}.branch{branch}"] = OPERATIONS if branch == 0 else ("none", *OPERATIONS)
            for earlier in range(layer):
                decisions[f"layer{layer}.skip{earlier}"] = (0, 1)
        super().__init__(name, decisions)

    def halves(self, layer: int) -> bool:
        """Whether the image is halved at the end of a layer."""
        return layer in (self.layers // 3 - 1, 2 * self.layers // 3 - 1)

    @property
    def mixable(self) -> bool:
        """With operations of its own; the cells' decisions choose what reads what."""
        return self.cell is None

    def wire(self, choices: Choices, net: Builder) -> int:
        return self._wire(choices, net, fixed=False)

    def wire_fixed(self, choices: Choices, net: Builder) -> int:
        """Every skip is there: an identity where it was chosen, else none."""
        return self._wire(choices, net, fixed=True)

    def _wire(self, choices: Choices, net: Builder, fixed: bool) -> int:
        stem = net.op("stem", net.input, self.channels, at="stem", kernel=3)
        values = [stem]  # value 0 is the stem, value i + 1 the output of layer i
        channels = self.channels
        for layer in range(self.layers):
            at = f"layer{layer}"
            terms = self._branches(choices, net, values, channels, at, fixed)
            for earlier in range(layer):
                skip = choices[f"{at}.skip{earlier}"]
                if fixed:
                    name = "identity" if skip else "none"
                    terms.append(net.op(name, values[earlier], at=f"{at}/skip{earlier}"))
                elif skip:
                    terms.append(values[earlier])
            values.append(net.op("batch_norm", net.sum(terms), at=at))
            if self.halves(layer):
                channels *= 2
                values = self._halve(choices, net, values, channels, at)
        return net.op("head", values[-1], net.num_classes, at="head")

    def _branches(
        self, choices: Choices, net: Builder, values: Sequence[int], channels: int, at: str, fixed: bool
    ) -> list[int]:
        if self.cell is not None:
            return [self._apply_cell(choices, net, values, channels, False, at)]
        terms = []
        for branch in range(self.branches):
            name = choices[f"{at}.branch{branch}"]
            if name != "none" or fixed:
                settings = {"kernel": _KERNELS[name]} if name in _KERNELS else {}
                terms.append(net.op(name, values[-1], at=f"{at}/branch{branch}", **settings))
        return terms

    def _apply_cell(
        self, choices: Choices, net: Builder, values: Sequence[int], channels: int, reduction: bool, at: str
    ) -> int:
        assert self.cell is not None
        inputs = (values[max(len(values) - 2, 0)], values[-1])
        joined = self.cell.wire_cell(choices, net, inputs, channels, reduction, False, at)
        return net.op("fit", joined, channels, at=f"{at}/{'reduced' if reduction else 'normal'}")

    def _halve(self, choices: Choices, net: Builder, values: Sequence[int], channels: int, at: str) -> list[int]:
        """All values at half the size; those that no later layer reads are not part of the network."""
        halved = [net.op("halve", value, channels, 2, at=f"{at}/halve{i}") for i, value in enumerate(values)]
        if self.cell is not None:
            halved[-1] = self._apply_cell(choices, net, values, channels, True, f"{at}/halve")
        return halved

    def covering_rows(self) -> Rows:
        if self.cell is None:
            return super().covering_rows()
        cells = self.cell.covering_rows()  # skips choose no operation
        return np.pad(cells, ((0, 0), (0, len(self.sizes) - cells.shape[1])))

    def decode(self, row: Any) -> str:
        if self.cell is None:
            return super().decode(row)
        inner = len(self.cell.decisions)
        own = list(self.choices(row).items())[inner:]
        return " ".join([f"{name}={value}" for name, value in own] + [self.cell.decode(self.check(row)[0, :inner])])

    def encode(self, text: str) -> Rows:
        if self.cell is None:
            return super().encode(text)
        own, mark, cells = text.partition("Genotype(")
        if not mark:
            raise SpaceError(f"{self.name}: expected skips, then Genotype(...), got {text[:60]!r}")
        choices = self.cell.choices(self.cell.encode(Genotype.parse(mark + cells)))
        return self.row_of(choices | dict(part.partition("=")[::2] for part in own.split()))

    def picture(self, row: Any) -> tuple[Picture, ...]:
        choices = self.choices(row)
        arcs: list[tuple[str, int, int]] = []
        for layer in range(self.layers):
            names = ["cell"]
            if self.cell is None:
                names = [choices[f"layer{layer}.branch{branch}"] for branch in range(self.branches)]
            arcs += [(name, layer, layer + 1) for name in names if name != "none"]
            skips = [earlier for earlier in range(layer) if choices[f"layer{layer}.skip{earlier}"]]
            arcs += [("skip_connect", earlier, layer + 1) for earlier in skips]
        states = ("in", *(str(layer) for layer in range(1, self.layers)), "out")
        own = Picture("Layers", states, tuple(arcs))
        return (
            (own,) if self.cell is None else (own, *self.cell.picture(self.check(row)[0, : len(self.cell.decisions)]))
        )


def enas_macro(layers: int = 12, branches: int = 1, channels: int = 36) -> MultiBranchSpace:
    """The macro space of ENAS; with more ``branches`` a layer adds several operations."""
    return MultiBranchSpace(layers, branches, channels)


def nasnet_macro(layers: int = 6, channels: int = 36, steps: int = 5) -> MultiBranchSpace:
    """NASNet cells as the layers of a multi-branch space: cells and skips are searched together."""
    return MultiBranchSpace(layers, 1, channels, nasnet(steps=steps))
