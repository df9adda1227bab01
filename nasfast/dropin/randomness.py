"""Random numbers that are drawn while a forward is traced."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterable
from typing import Any, TypeVar

import numpy as np
import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode

T = TypeVar("T")


class Randomness:
    """The generators that a forward may draw from, as they are now: torch's, Python's, NumPy's, the modules' own."""

    def __init__(self, device: torch.device, modules: Iterable[nn.Module] = ()) -> None:
        self._device = device
        self._generators = [g for part in modules for g in vars(part).values() if isinstance(g, torch.Generator)]
        self._python, self._numpy = random.getstate(), np.random.get_state(legacy=False)
        self._torch = self._states()

    def _states(self) -> list[Tensor]:
        states = [torch.get_rng_state(), *(generator.get_state() for generator in self._generators)]
        return [*states, torch.cuda.get_rng_state(self._device)] if self._device.type == "cuda" else states

    def outside_torch(self) -> bool:
        """Whether Python's or NumPy's generator was drawn from since."""
        return self._python != random.getstate() or not _same_numpy(self._numpy, np.random.get_state(legacy=False))

    def used(self) -> bool:
        """Whether any was drawn from since."""
        torch_s = any(not torch.equal(a, b) for a, b in zip(self._torch, self._states(), strict=True))
        return torch_s or self.outside_torch()

    def rewind(self) -> None:
        """Put them back to where they were."""
        torch.set_rng_state(self._torch[0])
        for generator, state in zip(self._generators, self._torch[1:], strict=False):
            generator.set_state(state)
        if self._device.type == "cuda":
            torch.cuda.set_rng_state(self._torch[-1], self._device)
        random.setstate(self._python)
        np.random.set_state(self._numpy)


def _same_numpy(a: Any, b: Any) -> bool:
    return bool(
        a["state"]["pos"] == b["state"]["pos"]
        and a["has_gauss"] == b["has_gauss"]
        and np.array_equal(a["state"]["key"], b["state"]["key"])
    )


class Draws(TorchDispatchMode):
    """Notes what is drawn from torch's generators within the block: operations, and the shapes of what they give."""

    def __init__(self) -> None:
        super().__init__()
        self.found: list[tuple[str, tuple[int, ...]]] = []

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        out = func(*args, **(kwargs or {}))
        if torch.Tag.nondeterministic_seeded in func.tags:
            first = out[0] if isinstance(out, (tuple, list)) else out
            self.found.append((str(func), tuple(first.shape) if isinstance(first, Tensor) else ()))
        return out


class ShapeBlind:
    """Traces a forward, and tells whether what it draws is the same whatever the shape of the images.

    A trace has unit vectors in place of images. Weights that are drawn in it are those of the forward; a mask of images
    is not: it would be one for all, or of other elements.
    """

    def __init__(self) -> None:
        self._known: set[tuple[tuple[str, tuple[int, ...]], ...]] = set()

    def run(self, trace: Callable[[int], T], randomness: Randomness, undo: Callable[[], None]) -> T | None:
        """The trace; None where it draws for the images.

        Args:
            trace: Runs it; with 2, on unit vectors of another batch, height and width than with 1.
            randomness: As it is before.
            undo: Puts back all that a trace changes, and the generators.
        """
        if self._known:
            with Draws() as draws:
                found = trace(1)
            if not randomness.used() or (tuple(draws.found) in self._known and not randomness.outside_torch()):
                return found
        else:
            found = trace(1)
            if not randomness.used():
                return found
        if randomness.outside_torch():
            return None
        undo()
        try:
            with Draws() as others:
                trace(2)
        except Exception:  # what runs on images only need not run on these
            return None
        undo()
        with Draws() as draws:
            found = trace(1)
        if not draws.found or draws.found != others.found:
            return None
        self._known.add(tuple(draws.found))
        return found
