"""A way of computing is timed only after its outputs and gradients agree with plain PyTorch's."""

from __future__ import annotations

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
