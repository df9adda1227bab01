"""A way of computing is timed only after its outputs and gradients agree with plain PyTorch's."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor


class MismatchError(RuntimeError):
    """A result differs from plain PyTorch's by more than rounding."""


def relative_error(got: Tensor, expected: Tensor) -> float:
    """Norm of the difference over the norm of what is expected."""
    expected = expected.detach().double()
    difference = torch.linalg.vector_norm(got.detach().double() - expected)
    scale = torch.linalg.vector_norm(expected).clamp_min(1e-30)
    return float(difference / scale)


def check_error(what: str, error: float, allowed: float) -> None:
    """Raises MismatchError when `error` is above `allowed` or not a number."""
    if not error <= allowed:
        raise MismatchError(f"{what}: relative error {error:.2e}, expected at most {allowed:.2e}")


TOLERANCE = 1e-4
ERROR_FACTOR = 3.0


def check_against_exact(
    what: str, results: Mapping[str, Sequence[Tensor]], exact: Sequence[Tensor], plain: Sequence[str]
) -> float:
    """The largest relative error of the ways that are not `plain`, against float64.

    A relu whose input is zero but for rounding opens in one order of summation and not in another, in PyTorch's two
    layouts too. So each result may be as far from float64 as theirs, or nearly.

    Raises:
        MismatchError: one is further off than that and than `TOLERANCE`.
    """
    errors = {
        name: [relative_error(*pair) for pair in zip(tensors, exact, strict=True)] for name, tensors in results.items()
    }
    allowed = [max(TOLERANCE, ERROR_FACTOR * max(pair)) for pair in zip(*(errors[name] for name in plain), strict=True)]
    others = [name for name in results if name not in plain]
    for name in others:
        for i, (error, most) in enumerate(zip(errors[name], allowed, strict=True)):
            check_error(f"{name}, {what}, tensor {i}", error, most)
    return max(max(errors[name]) for name in others)
