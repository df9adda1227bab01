"""Operations of a shared network as the primitives that csrc/child_eval computes."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from nasfast.errors import NasfastError
from nasfast.nn.primitives import DilConv, FactorizedReduce, ReLUConvBN, SepConv
from nasfast.spaces.operations import BasicBlock, InvertedResidual
from nasfast.supernets.bounds import Bounds

# Numbers of csrc/child_eval/primitives.h.
CONV, DEPTHWISE, INVERTED_RESIDUAL, AVERAGE_POOL, MAXIMUM_POOL, NORM, HEAD, SUM = range(8)
JOIN = 9
HAS_NORM, HAS_BIAS, RESIDUAL, EXPAND, SECOND_PIXEL = 1, 2, 4, 8, 16
_ACTS: dict[type[nn.Module], int] = {nn.ReLU: 1, nn.ReLU6: 2}
_NO_ACT = 0


_Part = Callable[[], Tensor]  # of a larger tensor, as it is when it is called
_Source = Tensor | tuple[Tensor, Tensor] | _Part  # of a pair, the difference is meant


class NoKernelError(NasfastError, ValueError):
    """An operation has no kernel in batched child evaluation."""


class Lowering:
    """Primitives, their tensors and operations, collected one operation at a time.

    Attributes:
        primitives: Rows of integers, see ``Primitive`` in csrc/child_eval/primitives.h.
        macros: Rows of integers, one per operation, see ``Macro`` in csrc/child_eval/plan.h.
        eps: Of every normalisation.
    """

    def __init__(self) -> None:
        self.primitives: list[list[int]] = []
        self.macros: list[list[int]] = []
        self._tensors: list[_Source] = []
        self.eps: list[float] = []
        self._start = 0
        self._name = ""

    def tensors(self) -> list[Tensor]:
        """The weights as they are now, in the order in which the primitives number them."""
        return [_value(source).detach() for source in self._tensors]

    def add_identity(self, channels: int) -> int:
        """Number of an operation that passes its input on."""
        return self._macro([1, 0, 0, channels, channels, 0, 1, 0])

    def add_zero(self, c_in: int, c_out: int, stride: int) -> int:
        """Number of an operation whose output is zero."""
        return self._macro([2, 0, 0, c_in, c_out, stride - 1, 1, 0])

    def add(self, name: str, module: nn.Module, c_in: int, c_out: int, place: int) -> int:
        """Number of an operation with weights.

        Args:
            name: For messages.
            place: A number of its own, the same whatever was added before.

        Raises:
            NoKernelError: It holds a layer, or layers in an order, that no kernel computes.
        """
        self._name, self._start = name, len(self.primitives)
        for layer in module.modules():
            if layer._forward_hooks or layer._forward_pre_hooks or hasattr(layer, "parametrizations"):
                raise self._fail(f"hooks or parametrizations, which {type(layer).__name__} has")
        self._lower(module, -1, c_in)
        added = self.primitives[self._start :]
        if not added:
            return self.add_identity(c_in)
        pools = {AVERAGE_POOL, MAXIMUM_POOL}
        keeps_zero = all(primitive[0] in pools for primitive in added)
        return self._macro([0, self._start, len(added), c_in, c_out, self._halvings(added), int(keeps_zero), place])

    def add_part(self, name: str, parts: Sequence[Bounds], residual: bool, place: int) -> int:
        """Number of an operation that is cut from a larger one.

        Args:
            name: For messages.
            parts: Its layers in order, and what it uses of each.
            residual: Its input is added.
            place: A number of its own, the same whatever was added before.

        Raises:
            NoKernelError: No kernel computes it.
        """
        self._name, self._start = name, len(self.primitives)
        convolutions = [part for part in parts if isinstance(part.layer, nn.Conv2d)]
        if len(convolutions) > 1:
            self._part_of_block(parts, convolutions, residual)
        else:
            self._part_of_layers(parts)
        halvings = self._halvings(self.primitives[self._start :])
        return self._macro([0, self._start, 1, parts[0].c_in, parts[-1].c_out, halvings, 0, place])

    def _part_of_block(self, parts: Sequence[Bounds], convolutions: list[Bounds], residual: bool) -> None:
        """Append an inverted residual."""
        *expand, spread, project = convolutions
        conv = spread.layer
        assert isinstance(conv, nn.Conv2d)
        if spread.kernel not in (3, 5, 7):
            raise self._fail(f"a depthwise kernel of {spread.kernel}")
        tensors: list[_Source] = [partial(_cut_weight, part) for part in convolutions]
        for part in parts:
            if isinstance(part.layer, nn.BatchNorm2d):
                tensors += self._part_of_norm(part)
        self._append(
            INVERTED_RESIDUAL,
            kernel=spread.kernel,
            stride=conv.stride[0],
            c_in=convolutions[0].c_in,
            c_hidden=spread.c_out,
            c_out=project.c_out,
            flags=(RESIDUAL if residual else 0) | (EXPAND if expand else 0),
            tensors=tensors,
            inputs=(-1,),
        )

    def _part_of_layers(self, parts: Sequence[Bounds]) -> None:
        """Append a convolution with its normalisation and the activations around it, or the head."""
        acts = [_NO_ACT, _NO_ACT]
        row: dict[str, Any] = {}
        tensors: list[_Source] = []
        kind = CONV
        for part in parts:
            layer = part.layer
            if isinstance(layer, nn.Conv2d):
                row = {"kernel": part.kernel, "stride": layer.stride[0], "c_in": part.c_in, "c_out": part.c_out}
                tensors.append(partial(_cut_weight, part))
            elif isinstance(layer, nn.BatchNorm2d):
                row["flags"] = HAS_NORM
                tensors += self._part_of_norm(part)
            elif isinstance(layer, nn.Linear):
                kind, row = HEAD, {"c_in": part.c_in, "c_out": part.c_out, "flags": HAS_BIAS}
                tensors += [partial(_cut_weight, part), partial(_cut_vector, part, "bias")]
            else:
                acts[1 if tensors else 0] = _ACTS[type(layer)]
        self._append(kind, **row, act_before=acts[0], act_after=acts[1], tensors=tensors, inputs=(-1,))

    def _part_of_norm(self, part: Bounds) -> list[_Source]:
        self._norm(part.layer)  # what it cannot be is refused there
        return [partial(_cut_vector, part, name) for name in ("weight", "bias", "running_mean", "running_var")]

    def _macro(self, row: list[int]) -> int:
        self.macros.append(row)
        return len(self.macros) - 1

    @staticmethod
    def _halvings(primitives: list[list[int]]) -> int:
        """Of the last result, against the operation's input."""
        depth: list[int] = []
        for primitive in primitives:
            source = primitive[11]
            depth.append((depth[source] if source >= 0 else 0) + int(primitive[2] == 2))
        return depth[-1]

    def _fail(self, what: str) -> NoKernelError:
        return NoKernelError(f"{self._name}: batched child evaluation has no kernel for {what}")

    # modules

    def _lower(self, module: nn.Module, source: int, channels: int) -> tuple[int, int]:
        """Append what a module computes of a result; returns the number and the channels of its own."""
        if type(module) is InvertedResidual:
            return self._inverted_residual(module, source)
        if type(module) is BasicBlock:
            main = self._lower(module.conv_b, *self._lower(module.conv_a, source, channels))
            short, c_out = self._lower(module.shortcut, source, channels)
            return self._append(SUM, c_in=c_out, c_out=c_out, inputs=(short, main[0])), c_out
        if type(module) is FactorizedReduce:
            return self._factorized_reduce(module, source, channels)
        layers = list(self._leaves(module))
        while layers:
            source, channels = self._layer(layers, source, channels)
        return source, channels

    def _leaves(self, module: nn.Module) -> Iterator[nn.Module]:
        if isinstance(module, nn.Sequential):
            for child in module:
                yield from self._leaves(child)
        elif type(module) in (ReLUConvBN, SepConv, DilConv):
            yield from self._leaves(module.get_submodule("op"))
        elif type(module) is not nn.Identity:
            yield module

    def _layer(self, layers: list[nn.Module], source: int, channels: int) -> tuple[int, int]:
        """Append one primitive for the first layers and take them off the list."""
        before = _NO_ACT
        if type(layers[0]) in _ACTS and len(layers) > 1 and type(layers[1]) is nn.Conv2d:
            before = _ACTS[type(layers.pop(0))]
        layer = layers.pop(0)
        if type(layer) is nn.Conv2d:
            return self._conv(layer, layers, before, source), layer.out_channels
        if type(layer) is nn.BatchNorm2d:
            tensors = self._norm(layer)
            act = self._act_after(layers)
            number = self._append(
                NORM, act_after=act, c_in=channels, c_out=channels, flags=HAS_NORM, tensors=tensors, inputs=(source,)
            )
            return number, channels
        if type(layer) in _ACTS:
            act = _ACTS[type(layer)]
            return self._append(NORM, act_after=act, c_in=channels, c_out=channels, inputs=(source,)), channels
        if isinstance(layer, nn.AvgPool2d | nn.MaxPool2d):
            return self._pool(layer, source, channels), channels
        if type(layer) is nn.AdaptiveAvgPool2d and layer.output_size in (1, (1, 1)):
            return self._head(layers, source)
        raise self._fail(f"{layer}")

    def _act_after(self, layers: list[nn.Module]) -> int:
        return _ACTS[type(layers.pop(0))] if layers and type(layers[0]) in _ACTS else _NO_ACT

    def _conv(self, conv: nn.Conv2d, layers: list[nn.Module], before: int, source: int) -> int:
        kernel, stride, dilation = conv.kernel_size[0], conv.stride[0], conv.dilation[0]
        depthwise = conv.groups > 1
        square = len({conv.kernel_size, (kernel, kernel)}) == len({conv.stride, (stride, stride)}) == 1
        same = conv.padding == (kernel // 2 * dilation,) * 2 and conv.dilation == (dilation, dilation)
        right_groups = conv.groups == 1 or (conv.groups == conv.in_channels == conv.out_channels and kernel > 1)
        if not (square and same and right_groups and kernel in (1, 3, 5, 7) and stride in (1, 2)):
            raise self._fail(f"{conv}")
        if conv.padding_mode != "zeros":
            raise self._fail(f"{conv}")
        tensors: list[_Source] = [conv.weight]
        flags = 0
        if layers and type(layers[0]) is nn.BatchNorm2d:
            flags = HAS_NORM
            gamma, beta, mean, variance = self._norm(layers.pop(0))
            tensors += [gamma, beta, mean if conv.bias is None else (mean, conv.bias), variance]
        elif conv.bias is not None:
            flags = HAS_BIAS
            tensors.append(conv.bias)
        return self._append(
            DEPTHWISE if depthwise else CONV,
            kernel=kernel,
            stride=stride,
            dilation=dilation,
            act_before=before,
            act_after=self._act_after(layers),
            c_in=conv.in_channels,
            c_out=conv.out_channels,
            flags=flags,
            tensors=tensors,
            inputs=(source,),
        )

    def _norm(self, norm: nn.Module) -> list[Tensor]:
        assert isinstance(norm, nn.BatchNorm2d)
        if norm.running_mean is None or norm.running_var is None:
            raise self._fail("a BatchNorm without running statistics")
        self.eps.append(norm.eps)
        ones = torch.ones_like(norm.running_var)
        gamma = ones if norm.weight is None else norm.weight
        beta = ones * 0 if norm.bias is None else norm.bias
        return [gamma, beta, norm.running_mean, norm.running_var]

    def _pool(self, pool: nn.AvgPool2d | nn.MaxPool2d, source: int, channels: int) -> int:
        size = _one(pool.kernel_size)
        stride, padding = _one(pool.stride), _one(pool.padding)
        uncounted = isinstance(pool, nn.MaxPool2d) or not pool.count_include_pad or padding == 0
        plain = isinstance(pool, nn.AvgPool2d) or _one(pool.dilation) == 1
        divides = isinstance(pool, nn.MaxPool2d) or pool.divisor_override is None
        shape = (size, stride, padding, pool.ceil_mode if size == 2 else False)
        if not (uncounted and plain and divides and shape in {(3, 1, 1, False), (3, 2, 1, False), (2, 2, 0, True)}):
            raise self._fail(f"{pool}")
        kind = MAXIMUM_POOL if isinstance(pool, nn.MaxPool2d) else AVERAGE_POOL
        return self._append(kind, kernel=size, stride=stride, c_in=channels, c_out=channels, inputs=(source,))

    def _head(self, layers: list[nn.Module], source: int) -> tuple[int, int]:
        if [type(layer) for layer in layers] != [nn.Flatten, nn.Linear]:
            raise self._fail("a global mean that flatten and a linear layer do not follow")
        linear = layers[1]
        assert isinstance(linear, nn.Linear)
        layers.clear()
        bias = linear.weight.new_zeros(linear.out_features) if linear.bias is None else linear.bias
        number = self._append(
            HEAD,
            c_in=linear.in_features,
            c_out=linear.out_features,
            flags=HAS_BIAS,
            tensors=[linear.weight, bias],
            inputs=(source,),
        )
        return number, linear.out_features

    def _factorized_reduce(self, module: FactorizedReduce, source: int, channels: int) -> tuple[int, int]:
        """Two 1x1 convolutions of every second pixel, the second from the second pixel on, joined and normalised."""
        halves = [
            self._append(
                CONV,
                stride=2,
                act_before=1,
                c_in=channels,
                c_out=conv.out_channels,
                flags=flags,
                tensors=[conv.weight],
                inputs=(source,),
            )
            for conv, flags in ((module.conv_1, 0), (module.conv_2, SECOND_PIXEL))
        ]
        return self._joined(module, halves)

    def _joined(self, module: FactorizedReduce, halves: list[int]) -> tuple[int, int]:
        c_out = module.bn.num_features
        joined = self._append(JOIN, c_in=c_out // 2, c_out=c_out, inputs=(halves[0], halves[1]))
        tensors = self._norm(module.bn)
        return self._append(NORM, c_in=c_out, c_out=c_out, flags=HAS_NORM, tensors=tensors, inputs=(joined,)), c_out

    def _inverted_residual(self, block: InvertedResidual, source: int) -> tuple[int, int]:
        layers = list(block.conv)
        convs = [layer for layer in layers if type(layer) is nn.Conv2d]
        norms = [layer for layer in layers if type(layer) is nn.BatchNorm2d]
        *expand, spread, project = convs
        tensors = [conv.weight for conv in convs]
        for norm in norms:
            tensors += self._norm(norm)
        number = self._append(
            INVERTED_RESIDUAL,
            kernel=spread.kernel_size[0],
            stride=spread.stride[0],
            c_in=convs[0].in_channels,
            c_hidden=spread.out_channels,
            c_out=project.out_channels,
            flags=(RESIDUAL if block.residual else 0) | (EXPAND if expand else 0),
            tensors=tensors,
            inputs=(source,),
        )
        return number, project.out_channels

    def _append(
        self,
        kind: int,
        *,
        kernel: int = 1,
        stride: int = 1,
        dilation: int = 1,
        act_before: int = _NO_ACT,
        act_after: int = _NO_ACT,
        c_in: int,
        c_hidden: int = 0,
        c_out: int,
        flags: int = 0,
        tensors: Sequence[_Source] = (),
        inputs: tuple[int, ...],
    ) -> int:
        row = [kind, kernel, stride, dilation, act_before, act_after, c_in, c_hidden, c_out, flags]
        self.primitives.append([*row, len(self._tensors), *inputs, *([-1] * (2 - len(inputs)))])
        self._tensors += tensors
        return len(self.primitives) - 1 - self._start


def _value(source: _Source) -> Tensor:
    if isinstance(source, tuple):
        return source[0] - source[1]
    return source if isinstance(source, Tensor) else source()


def _cut_weight(part: Bounds) -> Tensor:
    return part.weight(part.layer.get_parameter("weight"))


def _cut_vector(part: Bounds, name: str) -> Tensor:
    return part.vector(getattr(part.layer, name))


def _one(value: int | tuple[int, ...]) -> int:
    """A side that may be given once or for both axes; -1 where they differ."""
    if isinstance(value, int):
        return value
    return value[0] if len(set(value)) == 1 else -1
