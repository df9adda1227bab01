"""Sampling from the controller that ENAS has trained along with the weights."""

from __future__ import annotations

from dataclasses import dataclass

from nasfast.spaces.base import Rows
from nasfast.strategies.base import Strategy, Values
from nasfast.strategies.blackbox.policy_gradient import Reinforce

_DRAWS = 20  # for each architecture that is asked for


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
        draws = self.generator.random((_DRAWS * count, len(self.space.sizes)))
        drawn = self.controller.network.sample(draws)
        fresh = {key: None for key in map(tuple, drawn.tolist()) if key not in self.seen}
        # A controller that has settled draws few that are new: then the first draws fill up.
        rows = [*fresh, *map(tuple, drawn.tolist())][:count]
        return self.space.check(rows)

    def learn(self, rows: Rows, values: Values, violations: Values) -> None:
        """Nothing: the controller stays as it is."""
