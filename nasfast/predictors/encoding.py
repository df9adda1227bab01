"""Features of architectures for predictors: paths through a cell, or one indicator for every choice."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, Literal

import numpy as np

from nasfast.errors import ConfigError
from nasfast.predictors.base import Features
from nasfast.spaces import population
from nasfast.spaces.base import Picture, Rows, Space
from nasfast.spaces.joint import JointSpace

EncodingName = Literal["auto", "path", "one-hot"]

_SHOWN = 200_000  # rows whose paths are remembered


def paths_of(space: Space, row: Any) -> frozenset[str]:
    """Every path of operations from an input of a cell to its output.

    The path encoding of White, Neiswanger, Savani, "BANANAS: Bayesian Optimization with Neural Architectures for Neural
    Architecture Search", AAAI 2021: cells that differ only in what reaches no output have the same paths.
    Training settings that are searched too are paths of their own.
    """
    found = {path for picture in space.picture(row) for path in _paths(picture)}
    if isinstance(space, JointSpace):
        found |= {f"{name}={value}" for name, value in space.training(row).items()}
    return frozenset(found)


def _paths(picture: Picture) -> Iterable[str]:
    into: list[set[str]] = [set() for _ in picture.states]
    for state in range(picture.inputs):
        into[state].add(f"{picture.title}:{picture.states[state]}")
    for name, source, target in sorted(picture.arcs, key=lambda arc: arc[2]):
        into[target] |= {f"{path}>{name}" for path in into[source]}
    for state in picture.joined or (len(picture.states) - 1,):
        yield from into[state]


class Encoder:
    """Turns rows into features.

    Args:
        space: Whose rows.
        name: "path" for cells, with a feature for each path that a row of the last :meth:`learn` has; "one-hot" with
            one for each value of each decision; "auto": path where the space's pictures are cells.

    Raises:
        ConfigError: The space has no cells.
    """

    def __init__(self, space: Space, name: EncodingName = "auto") -> None:
        if name == "path" and not space.cell_based:
            raise ConfigError(f"path encoding needs a space of cells, got {space.name}; use one-hot")
        self.space, self.by_path = space, space.cell_based if name == "auto" else name == "path"
        self._columns: dict[str, int] = {}
        self._paths: dict[tuple[int, ...], frozenset[str]] = {}

    def learn(self, rows: Rows) -> Features:
        """Fix the features by rows int64 [K, D] and return theirs: float32 [K, F]."""
        if self.by_path:
            found = sorted(set().union(*(self._of(row) for row in rows)))
            self._columns = {path: column for column, path in enumerate(found)}
        return self.encode(rows)

    def encode(self, rows: Rows) -> Features:
        """Features of rows int64 [K, D]: float32 [K, F]. Paths that :meth:`learn` has not seen are left out."""
        if not self.by_path:
            hot: Features = population.one_hot(rows, self.space.sizes)
            return hot
        features = np.zeros((len(rows), max(1, len(self._columns))), np.float32)
        for place, row in enumerate(rows):
            columns = [self._columns[path] for path in self._of(row) if path in self._columns]
            features[place, columns] = 1
        return features

    def _of(self, row: Any) -> frozenset[str]:
        key = tuple(row.tolist())
        if key not in self._paths:
            if len(self._paths) >= _SHOWN:
                self._paths.clear()
            self._paths[key] = paths_of(self.space, row)
        return self._paths[key]
