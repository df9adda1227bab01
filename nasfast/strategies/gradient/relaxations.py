"""The differentiable strategies by name: how each draws weights, and the state that its draws depend on."""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from nasfast.errors import ConfigError
from nasfast.strategies.gradient import gdas, snas
from nasfast.strategies.gradient.drnas import dirichlet_mean, dirichlet_weights
from nasfast.strategies.gradient.gdas import gdas_weights
from nasfast.strategies.gradient.snas import concrete_weights, gumbel_noise
from nasfast.supernets.relaxation import Relaxation, Softmax

TEMPERATURES: dict[str, tuple[float, float]] = {"gdas": gdas.TEMPERATURES, "snas": snas.TEMPERATURES}
"""Temperatures of the first and the last epoch, for the strategies that have one."""


class Sampled:
    """Weights that are drawn in each forward. The state is the generator and the temperature, set by epoch.

    Args:
        strategy: gdas, snas or drnas.
        temperatures: Of the first and the last epoch; None for the strategy's own. DrNAS has no use for them.
        generator: On the device of the architecture parameters.
    """

    drawn = True

    def __init__(
        self,
        strategy: str,
        generator: torch.Generator,
        temperatures: tuple[float | None, float | None] = (None, None),
    ) -> None:
        if strategy not in ("gdas", "snas", "drnas"):
            raise ConfigError(f"weights are drawn by gdas, snas and drnas, got {strategy!r}")
        self.strategy, self.generator = strategy, generator
        first, last = TEMPERATURES.get(strategy, (1.0, 1.0))
        self.temperatures = (temperatures[0] or first, temperatures[1] or last)
        self.temperature = self.temperatures[0]

    @property
    def hard(self) -> bool:
        return self.strategy == "gdas"

    def begin_epoch(self, epoch: int, epochs: int) -> None:
        """Set the temperature of an epoch."""
        falls = linear if self.strategy == "gdas" else geometric
        self.temperature = falls(epoch, epochs, *self.temperatures)

    def expected(self, alphas: Tensor) -> Tensor:
        return dirichlet_mean(alphas) if self.strategy == "drnas" else F.softmax(alphas, dim=-1)

    def sample(self, alphas: Tensor) -> Tensor:
        if self.strategy == "drnas":
            return dirichlet_weights(alphas, self.generator)
        draw = gdas_weights if self.strategy == "gdas" else concrete_weights
        return draw(alphas, gumbel_noise(alphas, self.generator), self.temperature)

    def state(self) -> dict[str, Any]:
        """Plain values for :meth:`load_state`."""
        return {"generator": self.generator.get_state(), "temperature": self.temperature}

    def load_state(self, state: dict[str, Any]) -> None:
        """Go on with the draws where the one was whose state this is."""
        self.generator.set_state(state["generator"])
        self.temperature = float(state["temperature"])


def make_relaxation(
    strategy: str, generator: torch.Generator, temperatures: tuple[float | None, float | None] = (None, None)
) -> Relaxation:
    """What makes weights of the architecture parameters in a strategy."""
    return Softmax() if strategy in ("darts", "pcdarts") else Sampled(strategy, generator, temperatures)


def linear(epoch: int, epochs: int, first: float, last: float) -> float:
    """From ``first`` at epoch 0 to ``last`` at the last epoch, in equal steps."""
    return first + (last - first) * epoch / max(epochs - 1, 1)


def geometric(epoch: int, epochs: int, first: float, last: float) -> float:
    """From ``first`` at epoch 0 to ``last`` at the last epoch, by equal factors."""
    return float(first * (last / first) ** (epoch / max(epochs - 1, 1)))
