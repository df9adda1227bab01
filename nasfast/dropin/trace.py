"""Run a module's own forward with parts of it replaced, to learn how it combines them.

A part that is replaced returns a unit vector instead of an image. What comes out of a weighted sum of parts is then the
vector of their weights, connected by autograd to whatever they were computed from.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from nasfast.dropin.randomness import Randomness

Forward = Callable[..., Any]


@contextmanager
def replaced(modules: Sequence[nn.Module], forwards: Sequence[Forward]) -> Iterator[None]:
    """Give each module another forward, on the instance, for the time of the block."""
    saved = [module.__dict__.get("forward") for module in modules]
    try:
        for module, forward in zip(modules, forwards, strict=True):
            module.__dict__["forward"] = forward
        yield
    finally:
        for module, own in zip(modules, saved, strict=True):
            if own is None:
                module.__dict__.pop("forward", None)
            else:
                module.__dict__["forward"] = own


@contextmanager
def random_state_kept(device: torch.device) -> Iterator[Callable[[], None]]:
    """Yields a function that puts the generators back to where they were at the start, those of `device` too."""
    yield Randomness(device).rewind


def unit_vectors(count: int, like: Tensor, size: int = 1) -> list[Tensor]:
    """[size, count, size, size] each: unit vectors along the channels, the same for every image and pixel."""
    rows = torch.eye(count, dtype=like.dtype, device=like.device)
    return [row.view(1, count, 1, 1).expand(size, count, size, size) for row in rows]


def vector_of(image: Tensor) -> Tensor:
    """The channels [count] of a sum of such unit vectors."""
    return image[0, :, 0, 0]


def class_forward(module: nn.Module, args: Sequence[Any], kwargs: dict[str, Any]) -> Any:
    """The forward of the module's class, whatever stands on the instance."""
    return type(module).forward(module, *args, **kwargs)


def candidate_weights(
    module: nn.Module,
    candidates: Sequence[nn.Module],
    like: Tensor,
    args: Sequence[Any],
    kwargs: dict[str, Any],
    size: int = 1,
    image: bool = False,
) -> tuple[Tensor | None, list[int]]:
    """The weights [K] that this call of `module` gives its candidates, and which of them it called.

    The weights are None where its forward is not a sum over candidates that all were called once. `size` is that of the
    unit vectors, which changes no weight. With `image`, the first argument is taken for one more candidate, the last:
    it has its unit vector in other multiples at each pixel, which tells a multiple of it from another function of it.
    """
    units = unit_vectors(len(candidates) + image, like, 2 * size if image else size)
    if image:
        args = (units[-1] * _pattern(units[-1][:, -1]).unsqueeze(1), *args[1:])
    called: list[int] = []

    def stub(k: int) -> Forward:
        def forward(*_: Any, **__: Any) -> Tensor:
            called.append(k)
            return units[k]

        return forward

    with replaced(candidates, [stub(k) for k in range(len(candidates))]):
        out = class_forward(module, args, kwargs)
    whole = sorted(called) == list(range(len(candidates)))
    if not whole or not isinstance(out, Tensor) or out.shape != units[0].shape:
        return None, called
    weights = vector_of(out)
    if image:
        expected = weights.detach().view(1, -1, 1, 1).repeat(len(out), 1, *out.shape[2:])
        expected[:, -1] *= _pattern(expected[:, -1])
        if not torch.equal(out.detach(), expected):
            return None, called
    return weights, called


def _pattern(like: Tensor) -> Tensor:
    """Powers of -2 in the shape of `like`, so that products with them are exact; the first is 1."""
    exponents = torch.arange(like.numel(), dtype=like.dtype, device=like.device) % 7
    return torch.pow(-2.0, exponents).to(like.dtype).view(like.shape)
