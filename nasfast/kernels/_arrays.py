"""Arrays of other libraries as tensors and back, over DLPack: the same memory, no copy, ordered on torch's stream."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, TypeAlias, overload

from torch import Tensor
from torch.utils.dlpack import from_dlpack

from nasfast.errors import NasfastError

Array: TypeAlias = Any
"""A torch tensor, or any array that speaks DLPack: NumPy, CuPy, JAX, ..."""


def as_tensor(op: str, name: str, value: Array) -> Tensor:
    """`value` itself, or a tensor on the memory of an array.

    Raises:
        NasfastError: no array at all, or one that its library does not export (read-only, or of a dtype DLPack lacks).
    """
    if isinstance(value, Tensor):
        return value
    if not hasattr(value, "__dlpack__"):
        raise NasfastError(
            f"{op}: {name} must be a torch tensor or an array with __dlpack__, got {type(value).__name__}"
        )
    try:
        return from_dlpack(value)
    except (BufferError, TypeError, RuntimeError) as error:
        raise NasfastError(f"{op}: {name} cannot be shared over DLPack: {error}") from error


def as_tensors(op: str, name: str, values: Sequence[Array]) -> list[Tensor]:
    return [as_tensor(op, f"{name}[{i}]", value) for i, value in enumerate(values)]


@overload
def like(example: Tensor, result: Tensor) -> Tensor: ...
@overload
def like(example: Array, result: Tensor) -> Array: ...
def like(example: Array, result: Tensor) -> Array:
    """`result` as the kind of array that `example` is, on the same memory.

    Raises:
        NasfastError: the library of `example` names no array namespace to make one with.
    """
    if isinstance(example, Tensor):
        return result
    if not hasattr(example, "__array_namespace__"):
        raise NasfastError(
            f"{type(example).__name__} has no __array_namespace__ to return results in; pass torch tensors instead"
        )
    return example.__array_namespace__().from_dlpack(result.detach())
