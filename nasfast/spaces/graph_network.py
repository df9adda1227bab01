"""The stand-alone network of a graph."""

from __future__ import annotations

import functools

import torch
from torch import Tensor, nn

from nasfast.errors import SpaceError
from nasfast.spaces.graph import Graph, Op


class Zero(nn.Module):
    """Zeros of the shape that the operation would have given."""

    def __init__(self, c_out: int, stride: int) -> None:
        super().__init__()
        self.c_out, self.stride = c_out, stride

    def forward(self, x: Tensor) -> Tensor:
        height, width = (-(-side // self.stride) for side in x.shape[-2:])
        return x.new_zeros(x.shape[0], self.c_out, height, width)


def make_operation(graph: Graph, op: Op) -> nn.Module:
    """The module of one operation."""
    if op.is_identity:
        return nn.Identity()
    if op.is_zero:
        return Zero(op.c_out, op.stride)
    return graph.operations[op.name](op.c_in, op.c_out, op.stride, **dict(op.settings))


class GraphNetwork(nn.Module):
    """Runs a graph. Parameters are named by place and operation: two architectures share what both have by name.

    Shape: images [N, in_channels, H, W] to what the last node gives, [N, num_classes] for the spaces of nasfast.
    """

    def __init__(self, graph: Graph) -> None:
        super().__init__()
        self.graph = graph
        self.ops = nn.ModuleDict()
        self._names: list[str] = []
        for index, node in enumerate(graph.nodes):
            name = (node.weights or f"node{index}").replace(".", "_")
            if node.op is not None:
                if name in self.ops:
                    raise SpaceError(f"two operations of one architecture have the weights {node.weights!r}")
                self.ops[name] = make_operation(graph, node.op)
            self._names.append(name)
        last_reader = {source: index for index, node in enumerate(graph.nodes) for source in node.inputs}
        self._free: list[list[int]] = [[] for _ in graph.nodes]
        for source, reader in last_reader.items():
            self._free[reader].append(source)

    def _operate(self, index: int, x: Tensor) -> Tensor:
        """What the operation of a node gives."""
        result: Tensor = self.ops[self._names[index]](x)
        return result

    def forward(self, images: Tensor) -> Tensor:
        values: dict[int, Tensor] = {}
        for index, node in enumerate(self.graph.nodes):
            read = [values[source] for source in node.inputs]
            if node.kind == "input":
                values[index] = images
            elif node.kind == "op":
                values[index] = self._operate(index, read[0])
            elif node.kind == "sum":
                values[index] = functools.reduce(torch.add, read)
            else:
                values[index] = torch.cat(read, 1)
            for source in self._free[index]:
                del values[source]
        return values[len(self.graph.nodes) - 1]
