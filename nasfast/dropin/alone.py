"""What a layer does, found by running it alone on random input, in train and in eval mode."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

import torch
from torch import Tensor, nn

PROBE_SIZE = 8
Result = TypeVar("Result")


class Unrecognised(Exception):
    """A module has no fused form; the message says why."""


def is_identity(leaf: nn.Module, channels: int) -> bool:
    """True, or Unrecognised where a leaf between others changes what goes through it."""
    if effect_of(leaf, type(leaf).__name__, channels) != ("skip_connect", 1):
        raise Unrecognised(f"{type(leaf).__name__} has no fused form")
    return True


def is_convolution(leaf: nn.Module) -> bool:
    """Whether a subclass of Conv2d that has nothing beside its weight computes what Conv2d does, and draws nothing."""
    if not isinstance(leaf, nn.Conv2d) or set(leaf._parameters) != {"weight", "bias"} or leaf._buffers or leaf._modules:
        return False

    def as_it_is(own: nn.Module) -> bool:
        x = torch.randn(2, leaf.in_channels, PROBE_SIZE, PROBE_SIZE).to(leaf.weight)
        before = torch.get_rng_state()
        out, expected = own(x), nn.Conv2d.forward(leaf, x)
        drawn = not torch.equal(before, torch.get_rng_state())
        return not drawn and isinstance(out, Tensor) and out.shape == expected.shape and torch.allclose(out, expected)

    return _in_both_modes(leaf, type(leaf).__name__, as_it_is) == {True}


def effect_of(module: nn.Module, name: str, channels: int) -> tuple[str, int] | None:
    """What a module without parameters does to an image of so many channels, if that is known and always the same."""

    def reading(own: nn.Module) -> tuple[str, int] | None:
        x = torch.randn(2, channels, PROBE_SIZE, PROBE_SIZE)
        before = torch.get_rng_state()
        found = _read_output(x, own(x))
        if not torch.equal(before, torch.get_rng_state()):
            raise Unrecognised(f"{name} is random")
        return found

    readings = _in_both_modes(module, name, reading)
    return readings.pop() if len(readings) == 1 else None


def _in_both_modes(module: nn.Module, name: str, action: Callable[[nn.Module], Result]) -> set[Result]:
    """What an action on a module gives in train and in eval mode; raises Unrecognised where it fails."""
    modes = [(part, part.training) for part in module.modules()]
    state = torch.get_rng_state()
    found = set()
    try:
        for training in (True, False):
            module.train(training)
            with torch.no_grad():
                found.add(action(module))
    except Unrecognised:
        raise
    except Exception as error:
        raise Unrecognised(f"{name} could not be run alone ({type(error).__name__})") from None
    finally:
        torch.set_rng_state(state)
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
