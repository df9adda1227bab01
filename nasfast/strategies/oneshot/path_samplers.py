"""Which paths of a weight-shared network a training step takes: small samplers with explicit, plain state.

A path is a row of choices, as everywhere. A sampler is asked once per step; all its randomness comes from its own
generator, and ``load_state(state())`` goes on with the same rows.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import Any, ClassVar, Self

import numpy as np

from nasfast.errors import ConfigError
from nasfast.spaces.base import Rows, Space
from nasfast.strategies.blackbox.policy_gradient import Reinforce

State = dict[str, Any]


class PathSampler(ABC):
    """Proposes the paths of each step of a one-shot training.

    Attributes:
        paper: Where it is from.
        generator: Its source of random numbers.
    """

    paper: ClassVar[str]
    space: Space
    generator: np.random.Generator

    def init(self, space: Space, seed: int) -> Self:
        """Start on a space.

        Raises:
            ConfigError: The sampler has no meaning there.
        """
        self.space = space
        self.generator = np.random.default_rng(seed)
        self.start()
        return self

    def start(self) -> None:  # noqa: B027 - not every sampler has a state of its own
        """Set up the state of a new training; ``space`` and ``generator`` are there."""

    @property
    def paths(self) -> int:
        """Paths per step where nothing else is asked for."""
        return 1

    @abstractmethod
    def sample(self, count: int) -> Rows:
        """The paths of the next step: int64 [count, D]."""

    def state(self) -> State:
        """Everything the next step depends on besides space and settings, as plain JSON values."""
        return {"generator": self.generator.bit_generator.state, "own": self.save()}

    def load_state(self, state: State) -> None:
        """Go on from :meth:`state`; :meth:`init` was called with the same space."""
        self.generator.bit_generator.state = state["generator"]
        self.load(state["own"])

    def save(self) -> State:
        """The sampler's own part of :meth:`state`."""
        return {}

    def load(self, own: State) -> None:  # noqa: B027 - as for start
        """Set what :meth:`save` wrote."""


class UniformPaths(PathSampler):
    """Every decision uniform, on its own.

    Guo et al., "Single Path One-Shot Neural Architecture Search with Uniform Sampling", ECCV 2020.
    """

    paper = "Guo et al., ECCV 2020"

    def sample(self, count: int) -> Rows:
        return self.space.sample(self.generator, count)


class FairPaths(PathSampler):
    """Every value of every decision as often as any other.

    Chu et al., "FairNAS: Rethinking Evaluation Fairness of Weight Sharing Neural Architecture Search", ICCV 2021. Each
    decision deals its values from a shuffled deck, which is shuffled anew when it is empty. With as many paths as the
    largest decision has values, each of those is taken exactly once per step, as published; a smaller decision's values
    are, at any time, within one of each other.
    """

    paper = "Chu et al., ICCV 2021"

    def start(self) -> None:
        self.decks: list[list[int]] = [[] for _ in self.space.sizes]

    @property
    def paths(self) -> int:
        return int(self.space.sizes.max())

    def sample(self, count: int) -> Rows:
        return np.array([[self._deal(at) for at in range(len(self.decks))] for _ in range(count)], np.int64)

    def _deal(self, at: int) -> int:
        if not self.decks[at]:
            self.decks[at] = self.generator.permutation(int(self.space.sizes[at])).tolist()
        return self.decks[at].pop()

    def save(self) -> State:
        return {"decks": [list(deck) for deck in self.decks]}

    def load(self, own: State) -> None:
        self.decks = [list(deck) for deck in own["decks"]]


class SandwichPaths(PathSampler):
    """The largest child, the smallest one, and random ones between.

    Yu et al., "BigNAS: Scaling Up Neural Architecture Search with Big Single-Stage Models", ECCV 2020. For elastic
    spaces, whose decisions are sizes: all values of a decision must be numbers.
    """

    paper = "Yu et al., ECCV 2020"

    def start(self) -> None:
        self.ends = sandwich_ends(self.space)

    @property
    def paths(self) -> int:
        return 4

    def sample(self, count: int) -> Rows:
        if count < 2:
            raise ConfigError(f"the sandwich rule takes at least 2 paths per step, got {count}")
        return np.concatenate([self.ends, self.space.sample(self.generator, count - 2)])


def sandwich_ends(space: Space) -> Rows:
    """The largest and the smallest child of an elastic space: int64 [2, D].

    Raises:
        ConfigError: A decision is between other things than numbers.
    """
    for decision in space.decisions:
        if not all(isinstance(value, (int, float)) for value in decision.values):
            raise ConfigError(
                f"the sandwich rule needs a space whose decisions are sizes, such as mobilenet; {decision.name} of "
                f"{space.name} is one of {', '.join(map(str, decision.values[:4]))}"
            )
    largest = [int(np.argmax(decision.values)) for decision in space.decisions]
    smallest = [int(np.argmin(decision.values)) for decision in space.decisions]
    return np.array([largest, smallest], np.int64)


class ControllerPaths(PathSampler):
    """Drawn from the controller of ENAS, which is told of rewards between the steps.

    Pham et al., "Efficient Neural Architecture Search via Parameter Sharing", ICML 2018.

    Args:
        controller: REINFORCE with its policy; its ``batch`` is the number of rewards per update.
    """

    paper = "Pham et al., ICML 2018"

    def __init__(self, controller: Reinforce) -> None:
        self.controller = controller

    def start(self) -> None:
        # The policy draws its weights and its samples from a generator of its own.
        self.controller.init(self.space, int(self.generator.integers(2**63)))

    def sample(self, count: int) -> Rows:
        return self.controller.ask(count)

    def save(self) -> State:
        return {"controller": self.controller.state()}

    def load(self, own: State) -> None:
        self.controller.load_state(own["controller"])


MAKERS: dict[str, type[PathSampler]] = {"uniform": UniformPaths, "fair": FairPaths, "sandwich": SandwichPaths}
"""The samplers by name that need nothing but a space."""
