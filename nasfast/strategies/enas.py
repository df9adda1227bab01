"""Sampling from the controller that ENAS has trained along with the weights."""

from __future__ import annotations

from dataclasses import dataclass

from nasfast.spaces.base import Rows
from nasfast.strategies.base import Strategy, Values
from nasfast.strategies.policy_gradient import Reinforce


@dataclass
class ControllerSamples(Strategy):
    """Architectures drawn from a trained controller, which learns no more; those evaluated before are drawn again.

    Pham et al., "Efficient Neural Architecture Search via Parameter Sharing", ICML 2018: of several samples the best
    on held-out images is the result.

    Args:
        controller: Of the space that is searched.
    """

    paper = "Pham et al., ICML 2018"

    controller: Reinforce

    def ask(self, count: int) -> Rows:
        pending: set[tuple[int, ...]] = set()
        rows = [self.unseen(self._draw, pending) for _ in range(count)]
        return self.space.check(rows)

    def _draw(self) -> Rows:
        return self.controller.network.sample(self.generator.random((1, len(self.space.sizes))))[0]

    def learn(self, rows: Rows, values: Values, violations: Values) -> None:
        """Nothing: the controller stays as it is."""
