"""Parameters and FLOPs of a graph, from its operations alone: nothing is computed and no weight is made."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from weakref import WeakKeyDictionary

import torch
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from nasfast.errors import SpaceError
from nasfast.spaces.graph import Factory, Graph, Op
from nasfast.spaces.graph_network import make_operation

Size = tuple[int, ...]  # of an image's sides; empty once an operation has flattened them
Counter = Callable[[nn.Module, Tensor], tuple[int, Tensor]]
"""Runs a module on one image and returns its FLOPs beside its output. Both module and image are on the meta device."""


@dataclass(frozen=True)
class Cost:
    """Trainable parameters, and FLOPs for one image."""

    params: int
    flops: int


def multiply_adds(module: nn.Module, image: Tensor) -> tuple[int, Tensor]:
    """Multiply-adds of convolutions and matrix products; no biases, normalisation, activation or pooling."""
    with FlopCounterMode(display=False) as counter:
        out: Tensor = module(image)
    return counter.get_total_flops() // 2, out  # torch counts a multiply-add as two


_Key = tuple[Counter, Op, Size]
_costs: WeakKeyDictionary[Factory, dict[_Key, tuple[Cost, Size]]] = WeakKeyDictionary()


def graph_cost(graph: Graph, size: int = 32, counter: Counter = multiply_adds) -> Cost:
    """Cost of a graph for images of ``size`` x ``size`` pixels.

    Raises:
        SpaceError: An operation does not take the shape it is given, or gives other channels than the graph says.
    """
    costs = [operation_cost(graph, op, shape, counter)[0] for op, shape in operations_of(graph, size, counter)]
    return Cost(sum(cost.params for cost in costs), sum(cost.flops for cost in costs))


def operations_of(graph: Graph, size: int, counter: Counter = multiply_adds) -> list[tuple[Op, Size]]:
    """Every operation of a graph with the size of the images it reads, in order."""
    found: list[tuple[Op, Size]] = []
    sizes: list[Size] = []
    for node in graph.nodes:
        read = {sizes[source] for source in node.inputs} or {(size, size)}
        if len(read) > 1:
            raise SpaceError(f"{node.kind} of images of different sizes: {sorted(read)}")
        shape = read.pop()
        if node.op is not None:
            found.append((node.op, shape))
            shape = operation_cost(graph, node.op, shape, counter)[1]
        sizes.append(shape)
    return found


def operation_cost(graph: Graph, op: Op, size: Size, counter: Counter = multiply_adds) -> tuple[Cost, Size]:
    """Cost of one operation on images of this size, and the size of its output; measured once, on no data."""
    if op.is_identity:
        return Cost(0, 0), size
    if op.is_zero:
        return Cost(0, 0), tuple(-(-side // op.stride) for side in size)
    known = _costs.setdefault(graph.operations[op.name], {})
    key = (counter, op, size)
    if key not in known:
        known[key] = _measure(graph, op, size, counter)
    return known[key]


def _measure(graph: Graph, op: Op, size: Size, counter: Counter) -> tuple[Cost, Size]:
    with torch.device("meta"), torch.no_grad():
        module = make_operation(graph, op).eval()
        params = sum(p.numel() for p in module.parameters() if p.requires_grad)
        try:
            flops, out = counter(module, torch.empty(1, op.c_in, *size))
        except (RuntimeError, ValueError) as error:
            shape = ", ".join(map(str, (1, op.c_in, *size)))
            raise SpaceError(f"{op.name} does not take an input of shape [{shape}]: {error}") from error
    if out.shape[1] != op.c_out:
        raise SpaceError(f"{op.name} gives {out.shape[1]} channels, expected {op.c_out}")
    return Cost(params, flops), tuple(out.shape[2:])
