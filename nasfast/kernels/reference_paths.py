"""The supernet ops in plain PyTorch, one path at a time: slow, readable, and what the kernels are tested against."""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from nasfast.kernels.ops import PathGraph

_ACTS: tuple[Callable[[Tensor], Tensor], ...] = (lambda x: x, F.relu, F.relu6)
_CONV, _DEPTHWISE, _, _AVERAGE, _MAXIMUM, _NORM, _HEAD, _SUM, _PICK, _JOIN = range(10)


@dataclass(frozen=True)
class _Unit:
    kind: int
    kernel: int
    stride: int
    dilation: int
    before: int
    after: int
    c_in: int
    c_out: int
    weight: int
    bias: int
    gamma: int
    beta: int
    norm: int
    first: int
    second: int


def run_paths(
    graph: PathGraph,
    params: Sequence[Tensor],
    images: Tensor,
    row: Sequence[int],
    *,
    running: Sequence[Tensor] = (),
) -> Tensor:
    """What the images of one group become: the twin of :func:`.ops.supernet_paths` for one row of its index.

    Arguments as there; results [n, classes] or [n, C', h, w].
    """
    numbers = iter(graph.code)
    unit_count, operation_count, entry_count = (next(numbers) for _ in range(3))
    units = [_Unit(*_take(numbers, 15)) for _ in range(unit_count)]
    operations = [_take(numbers, 5) for _ in range(operation_count)]
    network = _Network(units, params, running, graph.eps)
    choices = iter([int(choice) for choice in row])
    values: list[Tensor] = []
    for _ in range(entry_count):
        kind, input_count, choice_count = _take(numbers, 3)
        read = [values[i] for i in _take(numbers, input_count)]
        chosen = _take(numbers, choice_count)
        if kind == 0:
            values.append(images)
        elif kind == 1:
            operation = operations[chosen[next(choices) if len(chosen) > 1 else 0]]
            values.append(network.operation(operation, read[0]))
        else:
            values.append(functools.reduce(torch.add, read) if kind == 2 else torch.cat(read, 1))
    return values[-1]


def _take(numbers: Iterator[int], count: int) -> list[int]:
    return [next(numbers) for _ in range(count)]


@dataclass(frozen=True)
class _Network:
    units: list[_Unit]
    params: Sequence[Tensor]
    running: Sequence[Tensor]
    eps: Sequence[float]

    def operation(self, operation: list[int], x: Tensor) -> Tensor:
        kind, first, count, c_out, stride = operation
        if kind == 1:
            return x
        if kind == 2:
            height, width = (-(-side // stride) for side in x.shape[-2:])
            return x.new_zeros(len(x), c_out, height, width)
        results: list[Tensor] = []
        for unit in self.units[first : first + count]:
            read = [x if i < 0 else results[i] for i in (unit.first, unit.second)]
            if unit.kind == _SUM:
                results.append(read[0] + read[1])
            elif unit.kind == _JOIN:
                results.append(torch.cat(read, 1))
            else:
                results.append(self.unit(unit, read[0]))
        return results[-1]

    def unit(self, unit: _Unit, x: Tensor) -> Tensor:
        if unit.kind == _HEAD:
            return F.linear(x.mean((2, 3)), self.weight(unit), self.vector(unit.bias, unit.c_out))
        if unit.kind in (_AVERAGE, _MAXIMUM):
            return _pool(unit, x)
        y = _ACTS[unit.before](x)
        if unit.kind == _PICK:
            return y[:, :, unit.kernel - 1 :: 2, unit.kernel - 1 :: 2]
        if unit.kind in (_CONV, _DEPTHWISE):
            y = F.conv2d(
                y,
                self.weight(unit),
                None if unit.bias < 0 else self.vector(unit.bias, unit.c_out),
                unit.stride,
                unit.kernel // 2 * unit.dilation,
                unit.dilation,
                groups=unit.c_in if unit.kind == _DEPTHWISE else 1,
            )
        return _ACTS[unit.after](self.normalise(unit, y) if unit.norm >= 0 else y)

    def normalise(self, unit: _Unit, y: Tensor) -> Tensor:
        gamma, beta = self.vector(unit.gamma, unit.c_out), self.vector(unit.beta, unit.c_out)
        if not self.running:
            return F.batch_norm(y, None, None, gamma, beta, True, eps=self.eps[unit.norm])
        mean, var = (self.running[2 * unit.norm + i][: unit.c_out] for i in range(2))
        return F.batch_norm(y, mean, var, gamma, beta, eps=self.eps[unit.norm])

    def vector(self, number: int, channels: int) -> Tensor:
        return self.params[number][:channels]

    def weight(self, unit: _Unit) -> Tensor:
        """The first channels and the middle of the kernel."""
        weight = self.params[unit.weight][: unit.c_out, : 1 if unit.kind == _DEPTHWISE else unit.c_in]
        if unit.kind == _HEAD:
            return weight
        margin = (weight.shape[-1] - unit.kernel) // 2
        return weight[..., margin : margin + unit.kernel, margin : margin + unit.kernel]


def _pool(unit: _Unit, x: Tensor) -> Tensor:
    padding = 1 if unit.kernel == 3 else 0
    if unit.kind == _MAXIMUM:
        return F.max_pool2d(x, unit.kernel, unit.stride, padding, ceil_mode=unit.kernel == 2)
    return F.avg_pool2d(x, unit.kernel, unit.stride, padding, ceil_mode=unit.kernel == 2, count_include_pad=False)
