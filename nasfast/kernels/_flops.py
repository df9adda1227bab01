"""What torch.utils.flop_counter counts of the ops: their convolutions and linear layers, two for a multiply-add.

Forward passes count as their twins in plain PyTorch. A backward counts each gradient that it computes as much as the
forward, that of a depthwise weight too, for which FlopCounterMode's own formula has that of a dense one. Batched
evaluation of children (``child_eval``), which computes what children share once, has no formula.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from math import prod
from typing import Any

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode, _get_current_dispatch_mode_stack
from torch.utils.flop_counter import FlopCounterMode, flop_registry, register_flop_formula

from nasfast.kernels.ops import _NORM_FACTOR, PathGraph
from nasfast.kernels.primitives import ALL_PRIMITIVES
from nasfast.kernels.reference_paths import run_paths

Shape = Sequence[int]


@dataclass(frozen=True)
class _Product:
    """A convolution or linear layer.

    Attributes:
        flops: Of its forward.
        reads_input: It reads what the op was given, whose gradient may be unwanted.
        parameter: Which parameter is its weight.
    """

    flops: int
    reads_input: bool
    parameter: int


_ops, aten = torch.ops.nasfast, torch.ops.aten


def _convolution(n: int, out: Shape, c_out: int, c_in: int, *window: int) -> int:
    return 2 * n * prod(out) * c_out * c_in * prod(window)


def _candidate(name: str, n: int, c: int, size: Shape, stride: int) -> Iterator[int]:
    """Of each convolution of a candidate on c x size, in their order."""
    out = [-(-side // stride) for side in size]
    if name.startswith(("sep_conv", "dil_conv")):
        side = int(name[-1])
        for _ in range(2 if name.startswith("sep") else 1):
            yield _convolution(n, out, c, 1, side, side)
            yield _convolution(n, out, c, c)
    elif name == "conv_7x1_1x7":
        yield _convolution(n, (size[0], out[1]), c, c, 7)
        yield _convolution(n, out, c, c, 7)
    elif name == "skip_connect" and stride == 2:
        yield from [_convolution(n, out, c // 2, c)] * 2


def _mixed_op_products(states: Sequence[Shape], graph: Sequence[int]) -> Iterator[tuple[int, _Product]]:
    """The convolutions of a mixed graph, each with the number of the state that its edge leaves."""
    inputs, _, candidates, edges = graph[:4]
    n, c, *size = states[0]
    stride = next(graph[e + 2] for e in range(4, len(graph), 3 + candidates) if graph[e] < inputs)
    inner = [-(-side // stride) for side in size]
    for edge in range(edges):
        first = 4 + edge * (3 + candidates)
        source, _, stride = graph[first : first + 3]
        for code in graph[first + 3 : first + 3 + candidates]:
            name = ALL_PRIMITIVES[code % _NORM_FACTOR]
            for number, flops in enumerate(_candidate(name, n, c, size if source < inputs else inner, stride)):
                reads_state = number == 0 or name == "skip_connect"
                yield source, _Product(flops, reads_state, -1)


@register_flop_formula(_ops._mixed_op_forward)
def _mixed_op_forward(states, weights, params, stats, graph, *_, **__) -> int:  # type: ignore[no-untyped-def]
    return sum(product.flops for _, product in _mixed_op_products(states, graph))


@register_flop_formula(_ops._mixed_op_backward)
def _mixed_op_backward(  # type: ignore[no-untyped-def]
    grad_out, out, states, weights, params, stats, saved, graph, eps, batch_stats, want_states, want_params, **__
) -> int:
    total = 0
    for source, product in _mixed_op_products(states, graph):
        wants_source = source >= len(states) or want_states[source]  # nodes hang on whatever wants a gradient
        wants_input = wants_source if product.reads_input else want_params or wants_source
        total += product.flops * (want_params + wants_input + (not saved))  # nothing saved: forward once more
    return total


def _relu_conv_bn_flops(x: Shape, weights: Sequence[Shape]) -> int:
    out = [side // len(weights) for side in x[2:]]
    return sum(_convolution(x[0], out, *weight) for weight in weights)


@register_flop_formula(_ops._relu_conv_bn_forward)
def _relu_conv_bn_forward(x, weights, *_, **__) -> int:  # type: ignore[no-untyped-def]
    return _relu_conv_bn_flops(x, weights)


@register_flop_formula(_ops._relu_conv_bn_backward)
def _relu_conv_bn_backward(  # type: ignore[no-untyped-def]
    grad_out, x, weights, affine, stats, saved, eps, batch_stats, want_x, want_params, **__
) -> int:
    return _relu_conv_bn_flops(x, weights) * (want_x + want_params + (prod(saved) == 0))


class _Products(TorchDispatchMode):
    """Notes the convolutions and linear layers that are computed of the images with the parameters.

    A formula is asked below autograd, where both are still whole.
    """

    def __init__(self, images: Tensor, params: Sequence[Tensor]) -> None:
        super().__init__()
        self.found: list[_Product] = []
        self._images = _storage(images)
        self._places = {_storage(param): place for place, param in enumerate(params)}

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        result = func(*args, **(kwargs or {}))
        if func is aten.conv2d.default:
            self._note(args[0], args[1], _convolution(len(result), result.shape[2:], *args[1].shape))
        elif func is aten.linear.default:
            self._note(args[0], args[1], 2 * len(result) * args[1].numel())
        return result

    def _note(self, read: Tensor, weight: Tensor, flops: int) -> None:
        self.found.append(_Product(flops, _storage(read) == self._images, self._places[_storage(weight)]))


def _storage(t: Tensor) -> int:
    return t.untyped_storage()._cdata


def _path_products(
    images: Tensor, index: Tensor, params: Sequence[Tensor], running: Sequence[Tensor], graph: list[int], eps: Any
) -> list[_Product]:
    code = PathGraph(graph, list(eps))
    shapes = [torch.empty_like(param, device="meta") for param in params]
    statistics = [torch.empty_like(value, device="meta") for value in running]
    group = torch.empty((len(images) // len(index), *images.shape[1:]), dtype=images.dtype, device="meta")
    with _Products(group, shapes) as products:
        for row in index.tolist():
            run_paths(code, shapes, group, row, running=statistics)
    return products.found


@register_flop_formula(_ops._supernet_paths_forward, get_raw=True)
def _supernet_paths_forward(  # type: ignore[no-untyped-def]
    images, index, params, running, graph, eps, per_operation, keep, **__
) -> int:
    return sum(product.flops for product in _path_products(images, index, params, running, graph, eps))


@register_flop_formula(_ops._supernet_paths_backward, get_raw=True)
def _supernet_paths_backward(  # type: ignore[no-untyped-def]
    grad_out, images, index, params, running, kept, stats, graph, eps, per_operation, want_images, want_params, **__
) -> int:
    return sum(
        product.flops * (want_params[product.parameter] + (want_images or not product.reads_input))
        for product in _path_products(images, index, params, running, graph, eps)
    )


def _table_flops(bins: Shape, scales: Shape, rows: Shape | None, width: int) -> int:
    """Of the product of all members' scales with the values of the features; looking values up counts nothing."""
    return 2 * (bins[0] if rows is None else rows[-1]) * prod(scales) * width


@register_flop_formula(_ops._table_embedding_forward)
def _table_embedding_forward(weights, bins, fractions, scales, rows, *_, **__) -> int:  # type: ignore[no-untyped-def]
    return _table_flops(bins, scales, rows, weights[-1])


@register_flop_formula(_ops._table_embedding_backward)
def _table_embedding_backward(  # type: ignore[no-untyped-def]
    grad, weights, bins, fractions, scales, rows, increments, lookups, want_weights, want_scales, **__
) -> int:
    return _table_flops(bins, scales, rows, weights[-1]) * (want_weights + want_scales)


def _teach_active_counters() -> None:
    """A counter copies the formulas when it is made: one that is at work as the ops are loaded has none of these."""
    own = {op: formula for op, formula in flop_registry.items() if str(op).startswith("nasfast.")}
    for mode in _get_current_dispatch_mode_stack():
        counter = getattr(mode, "counter", None)
        if isinstance(counter, FlopCounterMode):
            counter.flop_registry.update(own)


_teach_active_counters()
