"""Random arguments to call a foreign module with: images, and weights in the forms that networks use."""

from __future__ import annotations

import inspect
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from nasfast.dropin.alone import PROBE_SIZE, Unrecognised
from nasfast.dropin.mixed import FusedMixed
from nasfast.dropin.probe import MakeArguments
from nasfast.dropin.recognise import own_children

BATCH = 2


def _noise(like: Tensor, *shape: int) -> Tensor:
    return torch.randn(shape, dtype=like.dtype, device=like.device).requires_grad_()


def mixed_arguments(plan: FusedMixed) -> MakeArguments:
    """How to call a mixed operation whose convention is known."""
    count = len(plan.children)

    def make(like: Tensor) -> tuple[Any, ...]:
        x = _noise(like, BATCH, plan.bank.channels * plan.fraction, PROBE_SIZE, PROBE_SIZE + 2)
        if plan.convention == "vector" or (plan.convention == "inside" and plan.given):
            return x, _noise(like, count)
        if plan.convention == "list":
            return x, [_noise(like) for _ in range(count)]
        return (x,)

    return make


def cell_argument_forms(module: nn.Module, mixed: Sequence[FusedMixed]) -> list[MakeArguments]:
    """Ways in which a cell may want to be called: two states or one, then weights per edge, then edge weights."""
    required = _required_arguments(module)
    edges, count = len(mixed), len(mixed[0].children)
    shapes = _state_shapes(module, mixed)

    def matrix(like: Tensor) -> tuple[Any, ...]:
        return (_noise(like, edges, count),)

    def vectors(like: Tensor) -> tuple[Any, ...]:
        return ([_noise(like, count) for _ in range(edges)],)

    def scalars(like: Tensor) -> tuple[Any, ...]:
        return ([[_noise(like) for _ in range(count)] for _ in range(edges)],)

    def matrix_and_edges(like: Tensor) -> tuple[Any, ...]:
        return _noise(like, edges, count), _noise(like, edges)

    endings = {0: [lambda like: ()], 1: [matrix, vectors, scalars], 2: [matrix_and_edges]}

    def form(states: int, ending: Any) -> MakeArguments:
        return lambda like: (*(_noise(like, *shape) for shape in shapes[:states]), *ending(like))

    forms = [form(states, ending) for states in (2, 1) for ending in endings.get(required - states, [])]
    if not forms:
        raise Unrecognised(f"its forward takes {required} arguments, not states and weights")
    return forms


def _required_arguments(module: nn.Module) -> int:
    try:
        parameters = list(inspect.signature(type(module).forward).parameters.values())[1:]
    except (TypeError, ValueError):
        raise Unrecognised("its forward has no signature to read") from None
    positional = (inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD)
    if any(p.kind is inspect.Parameter.KEYWORD_ONLY and p.default is p.empty for p in parameters):
        raise Unrecognised("its forward wants keywords")
    return sum(p.kind in positional and p.default is p.empty for p in parameters)


def _state_shapes(module: nn.Module, mixed: Sequence[FusedMixed]) -> list[tuple[int, int, int, int]]:
    """Shapes of the first two states: what the pre-processing takes, of sizes that come out of it alike."""
    banks = {id(part) for plan in mixed for part in plan.module.modules()}
    width = mixed[0].bank.channels * mixed[0].fraction
    shapes = []
    for child in own_children(module):
        parts = list(child.modules())
        convs = [part for part in parts if isinstance(part, nn.Conv2d)]
        if convs and not any(id(part) in banks for part in parts):
            size = PROBE_SIZE * max(int(conv.stride[0]) for conv in convs)
            shapes.append((BATCH, convs[0].in_channels, size, size))
    usual = (BATCH, width, PROBE_SIZE, PROBE_SIZE)
    return [*shapes, usual, usual][:2]
