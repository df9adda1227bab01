"""A place of a mixture on the fused mixed operation."""

from __future__ import annotations

import functools
from collections.abc import Mapping, Sequence

from torch import Tensor, nn

from nasfast.kernels import ops
from nasfast.nn.fused import ParamList, run_mixed
from nasfast.spaces.graph import Factory, Op
from nasfast.spaces.operations import factorized_reduce, primitive

_NORMALISED = {True: "affine", False: "batch"}


def primitive_of(operations: Mapping[str, Factory], op: Op) -> str | None:
    """The fused kernel's name of an operation; None where the kernel does not have it."""
    if op.is_zero:
        return "none"
    if op.is_identity:
        return "skip_connect"
    factory = operations[op.name]
    if factory is factorized_reduce and op.c_in == op.c_out and op.stride == 2:
        return "skip_connect"
    if isinstance(factory, functools.partial) and factory.func is primitive and not factory.args:
        return str(factory.keywords["name"]) if set(factory.keywords) == {"name"} and not op.settings else None
    return None


def mix_fused(
    x: Tensor, weights: Tensor, primitives: Sequence[str], candidates: Sequence[nn.Module], stride: int
) -> Tensor:
    """``sum_k weights[k] * candidates[k](x)`` as one kernel call.

    Args:
        x: [N, C, H, W]; weights: [K].
        primitives: The kernel's names of the candidates, from which only parameters and statistics are read.
    """
    layers = ParamList(candidates, primitives)
    norms = tuple("none" if "pool" in name else _NORMALISED[_is_affine(candidates)] for name in primitives)
    return run_mixed(_graph(stride, tuple(primitives), norms), [x], weights.unsqueeze(0), layers, False)


def _is_affine(candidates: Sequence[nn.Module]) -> bool:
    found = [layer.affine for module in candidates for layer in module.modules() if isinstance(layer, nn.BatchNorm2d)]
    return all(found)


@functools.lru_cache(maxsize=256)
def _graph(stride: int, primitives: tuple[str, ...], norms: tuple[str, ...]) -> ops.MixedGraph:
    return ops.MixedGraph(1, 1, (ops.EdgeSpec(0, 0, stride, primitives, norms=norms),))
