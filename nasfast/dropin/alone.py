"""What a layer does, found by running it alone on random input, in train and in eval mode."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence
from typing import TypeVar

import torch
from torch import Tensor, nn

from nasfast.dropin.randomness import Randomness

PROBE_SIZE = 8
_ANY_SIZE = ((PROBE_SIZE, PROBE_SIZE), (7, 9))
_SCALES = (1.0, 1e-3, 1e4)
Result = TypeVar("Result")


class Unrecognised(Exception):
    """A module has no fused form; the message says why."""


def is_identity(leaf: nn.Module, channels: int) -> bool:
    """True, or Unrecognised where a leaf between others changes what goes through it."""
    if effect_of(leaf, type(leaf).__name__, channels, _ANY_SIZE) != ("skip_connect", 1):
        raise Unrecognised(f"{type(leaf).__name__} has no fused form")
    return True


def is_convolution(leaf: nn.Module) -> bool:
    """Whether a subclass of Conv2d that has nothing beside its weight computes what Conv2d does, and draws nothing."""
    if not isinstance(leaf, nn.Conv2d) or set(leaf._parameters) != {"weight", "bias"} or leaf._buffers or leaf._modules:
        return False

    def as_it_is(own: nn.Module, x: Tensor) -> bool:
        x = x.to(leaf.weight)
        out, expected = own(x), nn.Conv2d.forward(leaf, x)
        return isinstance(out, Tensor) and out.shape == expected.shape and torch.allclose(out, expected)

    return _always(leaf, type(leaf).__name__, leaf.in_channels, _ANY_SIZE, as_it_is) == {True}


def effect_of(
    module: nn.Module, name: str, channels: int, sizes: Sequence[tuple[int, int]] = ((PROBE_SIZE, PROBE_SIZE),)
) -> tuple[str, int] | None:
    """What a module without parameters does to images of so many channels, if that is known and always the same."""
    readings = _always(module, name, channels, sizes, lambda own, x: _read_output(x, own(x)))
    return readings.pop() if len(readings) == 1 else None


def _always(
    module: nn.Module,
    name: str,
    channels: int,
    sizes: Sequence[tuple[int, int]],
    action: Callable[[nn.Module, Tensor], Result],
) -> set[Result]:
    """What an action gives of a module and images, small and large values, in train and in eval mode.

    Raises:
        Unrecognised: It fails, or draws random numbers from any generator.
    """
    modes = [(part, part.training) for part in module.modules()]
    before = Randomness(torch.device("cpu"))
    found = set()
    try:
        for training, size, scale in itertools.product((True, False), sizes, _SCALES):
            module.train(training)
            x = scale * torch.randn(2, channels, *size)
            drawn = Randomness(torch.device("cpu"), module.modules())
            with torch.no_grad():
                found.add(action(module, x))
            if drawn.used():
                raise Unrecognised(f"{name} is random")
    except Unrecognised:
        raise
    except Exception as error:
        raise Unrecognised(f"{name} could not be run alone ({type(error).__name__})") from None
    finally:
        before.rewind()
        for part, mode in modes:
            part.training = mode
    return found


def _read_output(x: Tensor, y: object) -> tuple[str, int] | None:
    if not isinstance(y, Tensor):
        return None
    if y.shape == x.shape and torch.equal(x, y):
        return "skip_connect", 1
    for stride in (1, 2):
        if y.shape == x[:, :, ::stride, ::stride].shape and not y.any():
            return "none", stride
    return None
