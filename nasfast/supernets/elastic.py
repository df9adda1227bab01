"""A shared network whose operations are cut from the largest one at their place: width, kernel size, depth are bounds.

A child takes the first channels and the middle of the kernels. In plain PyTorch these are slices; the kernels of
csrc/supernet read the large weights themselves.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import torch.nn.functional as F
from torch import Tensor, nn

from nasfast.errors import SpaceError
from nasfast.nn.primitives import ReLUConvBN
from nasfast.spaces.base import Rows, Space
from nasfast.spaces.graph import Graph, Node, Op
from nasfast.spaces.graph_network import make_operation
from nasfast.spaces.operations import Classifier, InvertedResidual
from nasfast.supernets.bounds import Bounds
from nasfast.supernets.lowering import CONV, DEPTHWISE, HEAD, SUM
from nasfast.supernets.shared import SharedNetwork
from nasfast.supernets.units import UNITS, UnitLowering
from nasfast.supernets.wiring import whole_graph

_ACTS: dict[type[nn.Module], int] = {nn.ReLU: 1, nn.ReLU6: 2}


class ElasticNetwork(SharedNetwork):
    """One operation for each place, the largest; a child computes with a part of it.

    Cai et al., "Once-for-All: Train One Network and Specialize it for Efficient Deployment", ICLR 2020 (without its
    transformations of small kernels).

    Args:
        space: One that declares ``elastic``: at one place, operations of one name differ in channels and settings only.
        num_classes, in_channels: Of the network.

    Attributes:
        ops: The largest operation of every place. places: None: children differ in depth.

    Shape: images [N, in_channels, H, W] and a row to logits [N, num_classes].

    Raises:
        SpaceError: The space is not elastic, or an operation cannot be cut.
    """

    def __init__(self, space: Space, num_classes: int = 10, in_channels: int = 3) -> None:
        nn.Module.__init__(self)
        if not space.elastic:
            raise SpaceError(f"{space.name}: its operations are not cut from larger ones; use SharedNetwork")
        self.space, self.num_classes, self.in_channels = space, num_classes, in_channels
        self.places = None
        self.ops = nn.ModuleDict()
        self._largest: dict[str, Op] = {}
        graph: Graph | None = None
        for row in _bounding_rows(space):
            graph = whole_graph(space, row, num_classes, in_channels)
            for node in graph.nodes:
                if node.op is not None and node.weights:
                    known = self._largest.get(node.weights, node.op)
                    self._largest[node.weights] = _larger(known, node.op)
        assert graph is not None
        for weights, op in self._largest.items():
            self.ops[weights.replace(".", "_")] = make_operation(graph, op)
            self.bounds(weights, op)  # what cannot be cut is refused here

    def key_of(self, node: Node) -> str:
        """Name in ``ops`` of the operation that a node's is cut from.

        Raises:
            SpaceError: The node is not of this space.
        """
        largest = self._largest.get(node.weights)
        if node.op is None or largest is None or _larger(largest, node.op) != largest:
            raise SpaceError(
                f"{self.space.name}: {node.weights or node.kind} with {node.op} is no part of the shared network: "
                "a child of another space"
            )
        return node.weights.replace(".", "_")

    def bounds(self, weights: str, op: Op) -> list[Bounds]:
        """The layers that an operation computes, in order, and what it uses of each."""
        module = self.ops[weights.replace(".", "_")]
        if isinstance(module, InvertedResidual):
            return _inverted_residual(module, op)
        if isinstance(module, Classifier):
            linear = module[-1]
            return [Bounds(linear, op.c_in, op.c_out)]
        layers = [*(module.op if isinstance(module, ReLUConvBN) else module.children())]
        if [type(layer) for layer in layers if type(layer) not in _ACTS] != [nn.Conv2d, nn.BatchNorm2d]:
            raise SpaceError(f"{self.space.name}: {weights} cannot be cut: {type(module).__name__} has no elastic form")
        conv = next(layer for layer in layers if isinstance(layer, nn.Conv2d))
        kernel = int(dict(op.settings).get("kernel", conv.kernel_size[0]))
        return _cut(layers, [(op.c_in, op.c_out, kernel)])

    def compute(self, node: Node, x: Tensor) -> Tensor:
        """A node's operation with slices of the shared weights, in plain PyTorch."""
        self.key_of(node)
        assert node.op is not None
        y = x
        for part in self.bounds(node.weights, node.op):
            y = _compute(part, y)
        return x + y if has_residual(self.ops[self.key_of(node)], node.op) else y

    def lower(self, node: Node, lowering: UnitLowering) -> int:
        """Number of a node's operation among the units that csrc/supernet trains."""
        key, op = self.key_of(node), node.op
        assert op is not None
        parts = self.bounds(node.weights, op)
        units = _units(parts, lowering)
        if has_residual(self.ops[key], op):
            units.append([SUM, 1, 1, 1, 0, 0, op.c_out, op.c_out, -1, -1, -1, -1, -1, -1, len(units) - 1])
        return lowering.add_operation(UNITS, op.c_out, rows=units)


def _bounding_rows(space: Space) -> list[Rows]:
    """Rows that together hold every operation at its largest: each decision at each of its values, all others largest.

    Largest is what is last; values that are numbers may come in any order.
    """
    last = np.array([_largest_value(decision.values) for decision in space.decisions], np.int64)
    rows = [last]
    for at, size in enumerate(space.sizes.tolist()):
        for value in range(size):
            row = last.copy()
            row[at] = value
            rows.append(row)
    return rows


def _largest_value(values: Sequence[Any]) -> int:
    if all(isinstance(value, int | float) for value in values):
        return max(range(len(values)), key=lambda i: values[i])
    return len(values) - 1


def _larger(one: Op, other: Op) -> Op:
    """The operation that both are cut from."""
    if (one.name, one.stride) != (other.name, other.stride) or dict(one.settings).keys() != dict(other.settings).keys():
        raise SpaceError(f"{one} and {other} cannot be cut from one operation: they differ in more than size")
    settings = tuple((name, max(a, b)) for (name, a), (_, b) in zip(one.settings, other.settings, strict=True))
    return replace(one, c_in=max(one.c_in, other.c_in), c_out=max(one.c_out, other.c_out), settings=settings)


def has_residual(module: nn.Module, op: Op) -> bool:
    """Whether a part of an operation adds its input."""
    return isinstance(module, InvertedResidual) and op.stride == 1 and op.c_in == op.c_out


def _inverted_residual(block: InvertedResidual, op: Op) -> list[Bounds]:
    settings = {"kernel": 3, "expansion": 6} | dict(op.settings)
    hidden, layers = op.c_in * settings["expansion"], list(block.conv)
    sizes = [(hidden, hidden, settings["kernel"]), (hidden, op.c_out, 1)]
    expands = sum(isinstance(layer, nn.Conv2d) for layer in layers) == 3
    if expands and settings["expansion"] == 1:
        layers = layers[3:]
    elif expands:
        sizes.insert(0, (op.c_in, hidden, 1))
    return _cut(layers, sizes)


def _cut(layers: Sequence[nn.Module], sizes: list[tuple[int, int, int]]) -> list[Bounds]:
    """Bounds of layers, from those of the convolutions among them."""
    parts: list[Bounds] = []
    left = list(sizes)
    for layer in layers:
        if isinstance(layer, nn.Conv2d):
            parts.append(Bounds(layer, *left.pop(0)))
        else:
            channels = parts[-1].c_out if parts else left[0][0]
            parts.append(Bounds(layer, channels, channels))
    return parts


def _compute(part: Bounds, x: Tensor) -> Tensor:
    layer = part.layer
    if isinstance(layer, nn.Conv2d):
        groups = part.c_in if layer.groups > 1 else 1
        return F.conv2d(x, part.weight(layer.weight), None, layer.stride, part.kernel // 2, groups=groups)
    if isinstance(layer, nn.BatchNorm2d):
        return _normalise(layer, part.c_out, x)
    if isinstance(layer, nn.Linear):
        return F.linear(x.mean((2, 3)), part.weight(layer.weight), part.vector(layer.bias))
    result: Tensor = layer(x.clone() if getattr(layer, "inplace", False) else x)
    return result


def _normalise(norm: nn.BatchNorm2d, channels: int, x: Tensor) -> Tensor:
    assert norm.running_mean is not None
    assert norm.running_var is not None
    assert norm.num_batches_tracked is not None
    momentum = norm.momentum
    if norm.training:
        norm.num_batches_tracked.add_(1)
        if momentum is None:
            momentum = 1.0 / float(norm.num_batches_tracked)
    mean, var = norm.running_mean[:channels], norm.running_var[:channels]
    gamma, beta = norm.weight[:channels], norm.bias[:channels]
    return F.batch_norm(x, mean, var, gamma, beta, norm.training, momentum or 0.0, norm.eps)


def _units(parts: list[Bounds], lowering: UnitLowering) -> list[list[int]]:
    """A chain of convolutions with what surrounds them, as csrc/supernet/program.h writes it."""
    units: list[list[int]] = []
    before = 0
    for part in parts:
        layer = part.layer
        if isinstance(layer, nn.Conv2d):
            kind = DEPTHWISE if layer.groups > 1 else CONV
            row = [kind, part.kernel, layer.stride[0], 1, before, 0, part.c_in, part.c_out]
            units.append([*row, lowering.number_of(layer.weight), -1, -1, -1, -1, len(units) - 1, -1])
            before = 0
        elif isinstance(layer, nn.BatchNorm2d):
            norm = [lowering.number_of(layer.weight), lowering.number_of(layer.bias), lowering.norm_number(layer)]
            units[-1][10:13] = norm
        elif isinstance(layer, nn.Linear):
            row = [HEAD, 1, 1, 1, 0, 0, part.c_in, part.c_out]
            params = [lowering.number_of(layer.weight), lowering.number_of(layer.bias)]
            units.append([*row, *params, -1, -1, -1, len(units) - 1, -1])
        elif units:
            units[-1][5] = _ACTS[type(layer)]
        else:
            before = _ACTS[type(layer)]
    return units
