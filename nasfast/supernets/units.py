"""A shared network as the units that csrc/supernet trains: layers with what surrounds them, and their parameters."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from nasfast.kernels.ops import PathGraph
from nasfast.nn.primitives import FactorizedReduce
from nasfast.spaces.operations import InvertedResidual
from nasfast.supernets.lowering import CONV, DEPTHWISE, HAS_BIAS, HAS_NORM, HEAD, SUM, Lowering, NoKernelError

# Numbers of csrc/supernet/program.h.
UNITS, IDENTITY, ZERO = range(3)
PICK = 8  # a kind of unit beside those of lowering.py
_PARAMS, _NORM = slice(8, 12), 12  # of the fields of a unit
ENTRY_KINDS = {"input": 0, "op": 1, "sum": 2, "concat": 3, "join": 3}


@dataclass(frozen=True)
class Parameter:
    """Where a parameter is found: modules may be given new ones."""

    module: nn.Module
    name: str

    def get(self) -> Tensor:
        """The tensor as it is now."""
        found: Tensor = getattr(self.module, self.name)
        return found


@dataclass(frozen=True)
class UnitNetwork:
    """A network of units, and where its parameters and statistics are found.

    Attributes:
        graph: As the kernels read it.
        sources: Parameters, and constants, by their numbers in the graph.
        norms: BatchNorms by theirs.
    """

    graph: PathGraph
    sources: list[Parameter | Tensor]
    norms: list[nn.BatchNorm2d]

    def params(self, dtype: torch.dtype) -> list[Tensor]:
        """The parameters as they are now, constants in ``dtype``."""
        return [source.get() if isinstance(source, Parameter) else source.to(dtype) for source in self.sources]


class _Numbering:
    """Numbers of those that were met, in the order in which they were; -1 stays."""

    def __init__(self) -> None:
        self.numbers: dict[int, int] = {}

    def of(self, number: int) -> int:
        return -1 if number < 0 else self.numbers.setdefault(number, len(self.numbers))


class UnitLowering(Lowering):
    """Units, operations and parameters, collected one operation at a time.

    Attributes:
        norms: The BatchNorms, in the order of their numbers.
    """

    def __init__(self, modules: Iterable[nn.Module]) -> None:
        super().__init__()
        self.units: list[list[int]] = []
        self.operations: list[list[int]] = []
        self.norms: list[nn.BatchNorm2d] = []
        self._owners = {
            id(value): Parameter(module, name)
            for module in modules
            for name, value in module.named_parameters(recurse=False)
        }
        self._numbers: dict[int, int] = {}
        self._sources: list[Parameter | Tensor] = []
        self._norm_numbers: dict[int, int] = {}
        self._met: list[nn.BatchNorm2d] = []  # by the operation that is being lowered, in order

    def network(self, entries: list[tuple[int, list[int], list[int]]]) -> UnitNetwork:
        """The network of ``entries``, (kind, inputs, operations), with the operations that they name and no others."""
        sources, norms = _Numbering(), _Numbering()
        units: list[list[int]] = []
        operations: list[list[int]] = []
        numbers: dict[int, int] = {}
        code: list[int] = []
        for kind, inputs, chosen in entries:
            for number in chosen:
                if number in numbers:
                    continue
                numbers[number] = len(operations)
                what, first, count, c_out, stride = self.operations[number]
                operations.append([what, len(units), count, c_out, stride])
                for unit in self.units[first : first + count]:
                    params = [sources.of(source) for source in unit[_PARAMS]]
                    units.append([*unit[: _PARAMS.start], *params, norms.of(unit[_NORM]), *unit[_NORM + 1 :]])
            code += [kind, len(inputs), len(chosen), *inputs, *(numbers[number] for number in chosen)]
        found = [self.norms[number] for number in norms.numbers]
        head = [len(units), len(operations), len(entries)]
        graph = PathGraph([*head, *(n for row in (*units, *operations) for n in row), *code], [n.eps for n in found])
        return UnitNetwork(graph, [self._sources[number] for number in sources.numbers], found)

    def add_units(self, name: str, module: nn.Module, c_in: int, c_out: int) -> int:
        """Number of an operation with layers.

        Raises:
            NoKernelError: It holds a layer, or layers in an order, that no kernel computes.
        """
        self._met = []
        first = len(self.primitives)
        number = super().add(name, module, c_in, c_out, place=1)
        if self.macros[number][0] != 0:
            return self.add_operation(IDENTITY, c_out)
        return self.add_operation(UNITS, c_out, rows=[self._unit(row) for row in self.primitives[first:]])

    def add_operation(self, kind: int, c_out: int, stride: int = 1, rows: Iterable[list[int]] = ()) -> int:
        """Number of an operation of these units; none for an identity and for zeros."""
        units = list(rows)
        self.operations.append([kind, len(self.units), len(units), c_out, stride])
        self.units += units
        return len(self.operations) - 1

    def _fail(self, what: str) -> NoKernelError:
        return NoKernelError(f"{self._name}: training by paths has no kernel for {what}")

    def _norm(self, norm: nn.Module) -> list[Tensor]:
        assert isinstance(norm, nn.BatchNorm2d)
        self._met.append(norm)
        return super()._norm(norm)

    def _conv(self, conv: nn.Conv2d, layers: list[nn.Module], before: int, source: int) -> int:
        if conv.bias is not None and layers and type(layers[0]) is nn.BatchNorm2d:
            return super()._conv(conv, [], before, source)  # the normalisation is a unit of its own
        return super()._conv(conv, layers, before, source)

    def _factorized_reduce(self, module: FactorizedReduce, source: int, channels: int) -> tuple[int, int]:
        """Every second pixel, from the first and from the second on, each through a 1x1 convolution of its own."""
        halves = []
        for first, conv in ((1, module.conv_1), (2, module.conv_2)):
            picked = self._append(
                PICK, kernel=first, stride=2, act_before=1, c_in=channels, c_out=channels, inputs=(source,)
            )
            halves.append(
                self._append(CONV, c_in=channels, c_out=conv.out_channels, tensors=[conv.weight], inputs=(picked,))
            )
        return self._joined(module, halves)

    def _inverted_residual(self, block: InvertedResidual, source: int) -> tuple[int, int]:
        first = next(layer for layer in block.conv if isinstance(layer, nn.Conv2d))
        last, channels = self._lower(block.conv, source, first.in_channels)
        if block.residual:
            last = self._append(SUM, c_in=channels, c_out=channels, inputs=(source, last))
        return last, channels

    def _unit(self, row: list[int]) -> list[int]:
        """A primitive as a unit: parameters by number instead of a run of tensors."""
        kind, kernel, stride, dilation, before, after, c_in, _, c_out, flags, first, *inputs = row
        weight = bias = gamma = beta = norm = -1
        if kind in (CONV, DEPTHWISE, HEAD):
            weight, first = self._number(first), first + 1
        if flags & HAS_BIAS:
            bias = self._number(first)
        if flags & HAS_NORM:
            gamma, beta, norm = self._number(first), self._number(first + 1), self.norm_number(self._met.pop(0))
        return [kind, kernel, stride, dilation, before, after, c_in, c_out, weight, bias, gamma, beta, norm, *inputs]

    def _number(self, source: int) -> int:
        tensor = self._tensors[source]
        assert isinstance(tensor, Tensor)
        return self.number_of(tensor)

    def number_of(self, tensor: Tensor) -> int:
        """Number of a parameter; one that is met twice has one. Others than parameters are constants."""
        if id(tensor) not in self._numbers:
            self._numbers[id(tensor)] = len(self._sources)
            self._sources.append(self._owners.get(id(tensor), tensor))
        return self._numbers[id(tensor)]

    def norm_number(self, norm: nn.BatchNorm2d) -> int:
        """Number of a BatchNorm."""
        if id(norm) not in self._norm_numbers:
            self._norm_numbers[id(norm)] = len(self.norms)
            self.norms.append(norm)
        return self._norm_numbers[id(norm)]
