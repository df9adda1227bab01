"""A space whose rows choose training settings besides an architecture, so that both are searched together."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from torch import nn

from nasfast.errors import SpaceError
from nasfast.spaces.base import Choices, Picture, Rows, Space
from nasfast.spaces.cost import Cost
from nasfast.spaces.graph import Builder, Graph
from nasfast.spaces.hyperparameters import check_values, join_text, split_text, value_text

_TRAITS = ("operations", "keep_unused", "fixed_wiring", "elastic", "cell_based", "image_size", "counter")


class JointSpace(Space):
    """The decisions of another space, and one for each training setting that is tuned.

    Networks, costs and pictures are those of the architecture that a row holds; rows are equal functions only where
    their settings are equal too. Text form: the architecture's, then the settings, ``ARCH @ lr=0.02, cutout=2``.

    Args:
        space: Of the architectures.
        settings: Values to choose from, by the names of :data:`nasfast.spaces.hyperparameters.TUNABLE`.

    Raises:
        ConfigError: An unknown setting, or a value that it does not take.
        SpaceError: No setting, or a decision of the space has the name of one.
    """

    def __init__(self, space: Space, settings: Mapping[str, Sequence[Any]]) -> None:
        self.settings = {name: check_values(name, values) for name, values in settings.items()}
        decisions = {decision.name: decision.values for decision in space.decisions}
        both = [name for name in self.settings if name in decisions]
        if both or not settings:
            why = f"{both[0]} is a decision of it" if both else "there is none"
            raise SpaceError(f"{space.name}: cannot be searched with training settings: {why}")
        super().__init__(space.name, decisions | self.settings)
        self.space = space
        vars(self).update({name: getattr(space, name) for name in _TRAITS})  # those of a class, elsewhere

    def __reduce__(self) -> tuple[Any, ...]:
        return JointSpace, (self.space, self.settings)

    # the two parts of a row

    def architecture(self, row: Any) -> Rows:
        """The row of the architecture alone, int64 [D] of the wrapped space."""
        found: Rows = self.check(row)[0, : len(self.space.sizes)]
        return found

    def training(self, row: Any) -> dict[str, Any]:
        """The chosen settings by name."""
        choices = self.choices(row)
        return {name: choices[name] for name in self.settings}

    def options(self) -> tuple[str, ...]:
        """The settings as :func:`nasfast.spaces.hyperparameters.parse_tuned` reads them."""
        return tuple(f"{name}={','.join(map(value_text, values))}" for name, values in self.settings.items())

    def covering_rows(self) -> Rows:
        covering = self.space.covering_rows()
        return np.concatenate([covering, np.zeros((len(covering), len(self.settings)), np.int64)], 1)

    # text

    def decode(self, row: Any) -> str:
        return join_text(self.space.decode(self.architecture(row)), self.training(row))

    def encode(self, text: str) -> Rows:
        arch, settings = split_text(text)
        for name in dict.fromkeys((*self.settings, *settings)):
            if name not in settings or settings[name] not in self.settings.get(name, ()):
                known = ", ".join(map(value_text, self.settings.get(name, ()))) or "no value"
                got = value_text(settings[name]) if name in settings else "none"
                raise SpaceError(f"{self.name}: expected ARCH @ SETTINGS, with {name} one of {known}, got {got}")
        own = [values.index(settings[name]) for name, values in self.settings.items()]
        return np.concatenate([self.space.encode(arch), np.array(own, np.int64)])

    # networks

    @property
    def mixable(self) -> bool:
        return self.space.mixable

    def wire(self, choices: Choices, net: Builder) -> int:
        return self.space.wire(self._architecture_choices(choices), net)

    def wire_fixed(self, choices: Choices, net: Builder) -> int:
        return self.space.wire_fixed(self._architecture_choices(choices), net)

    def _architecture_choices(self, choices: Choices) -> Choices:
        return {decision.name: choices[decision.name] for decision in self.space.decisions}

    def graph(self, row: Any, num_classes: int = 10, in_channels: int = 3) -> Graph:
        return self.space.graph(self.architecture(row), num_classes, in_channels)

    def build(self, row: Any, num_classes: int = 10, in_channels: int = 3) -> nn.Module:
        return self.space.build(self.architecture(row), num_classes, in_channels)

    def cost(self, row: Any, num_classes: int = 10, in_channels: int = 3, size: int | None = None) -> Cost:
        return self.space.cost(self.architecture(row), num_classes, in_channels, size)

    def canonical(self, row: Any) -> str:
        return join_text(self.space.canonical(self.architecture(row)), self.training(row))

    def picture(self, row: Any) -> tuple[Picture, ...]:
        return self.space.picture(self.architecture(row))


def architectures_of(space: Space) -> Space:
    """The space of the architectures alone."""
    return space.space if isinstance(space, JointSpace) else space
