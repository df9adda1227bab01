"""What a search space is: ordered decisions, and how a row of choices is wired into a network.

An architecture is a row of small integers, one per decision: the number of the value that was chosen. A population is
an int64 array [K, D] of such rows. To write a space of your own, derive from :class:`Space`, name the operations,
give the decisions, and wire them::

    class TwoLayers(Space):
        operations = {"conv": conv_bn_relu6, "mine": my_block, "head": Classifier}

        def __init__(self) -> None:
            super().__init__("two-layers", {"first": ("conv", "mine"), "second": ("conv", "mine", "identity")})

        def wire(self, choices: Choices, net: Builder) -> int:
            x = net.op(choices["first"], net.input, 16, at="first")
            x = net.op(choices["second"], x, at="second")
            return net.op("head", x, net.num_classes, at="head")
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import prod
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray
from torch import nn

from nasfast.errors import SpaceError
from nasfast.spaces import population
from nasfast.spaces.cost import Cost, Counter, graph_cost, multiply_adds
from nasfast.spaces.graph import Builder, Factory, Graph
from nasfast.spaces.graph_network import GraphNetwork
from nasfast.utils.suggest import did_you_mean, must_be_one_of

Rows = NDArray[np.int64]
Ancestors = tuple[tuple[int, ...], ...]
"""What a row was made from, what that was made from, and so on, eldest first: those that were estimated."""

Choices = Mapping[str, Any]
"""The chosen value of every decision, by the decision's name."""

MOST_ROWS = 10_000_000
"""Rows that a space may have to be listed."""


@dataclass(frozen=True)
class Decision:
    """One choice: its name, and the values to choose from, told apart by their text."""

    name: str
    values: tuple[Any, ...]


@dataclass(frozen=True)
class Picture:
    """What there is to draw of an architecture: states in order, operations from one to a later one, joined states.

    The first ``inputs`` states are read from outside; the output is the joined states, or the last one without any.
    """

    title: str
    states: tuple[str, ...]
    arcs: tuple[tuple[str, int, int], ...]
    joined: tuple[int, ...] = ()
    inputs: int = 1


class Space(ABC):
    """A search space. Rows that are no architecture of it raise SpaceError.

    Args:
        name: Its name in files and messages.
        decisions: The values of every decision by name, in order.

    Attributes:
        operations: Factories by name, see :data:`nasfast.spaces.graph.Factory`.
        sizes: int64 [D], how many values each decision has.
        image_size: Side of the images, in pixels, that costs are counted for.
        keep_unused: Keep operations that do not reach the output in the network and in its cost.
        fixed_wiring: All rows have the same nodes and inputs, and each node's operation follows one decision at most.
        elastic: Operations of one name at one place differ in channels and settings only: in a shared network they are
            cut from the largest.
        cell_based: Its pictures are cells, small enough to list all paths from their inputs to the output.
        counter: What a FLOP is: multiply-adds, unless the space's publication counts otherwise.
    """

    operations: ClassVar[Mapping[str, Factory]] = {}
    keep_unused: ClassVar[bool] = False
    fixed_wiring: ClassVar[bool] = False
    elastic: ClassVar[bool] = False
    cell_based: ClassVar[bool] = False
    image_size: int = 32
    counter: Counter = staticmethod(multiply_adds)

    def __init__(self, name: str, decisions: Mapping[str, Sequence[Any]]) -> None:
        self.name = name
        self.decisions = tuple(Decision(key, tuple(values)) for key, values in decisions.items())
        for decision in self.decisions:
            texts = [str(value) for value in decision.values]
            if not texts or len(set(texts)) != len(texts) or any(text.split() != [text] for text in texts):
                raise SpaceError(f"{name}: {decision.name} needs different values without blanks, got {texts}")
        if not self.decisions:
            raise SpaceError(f"{name}: a space needs at least one decision")
        self.sizes: Rows = np.array([len(decision.values) for decision in self.decisions], np.int64)

    @abstractmethod
    def wire(self, choices: Choices, net: Builder) -> int:
        """Write an architecture's network into ``net`` and return the node of its logits."""

    @property
    def mixable(self) -> bool:
        """Whether :meth:`wire_fixed` wires all rows alike, so that the candidates of each place can be mixed."""
        return self.fixed_wiring

    def wire_fixed(self, choices: Choices, net: Builder) -> int:
        """As :meth:`wire`, but with the same nodes and inputs whatever is chosen, where the space is ``mixable``.

        What a row does not connect is connected through "none".
        """
        return self.wire(choices, net)

    def __repr__(self) -> str:
        return f"<{self.name}: {len(self.decisions)} decisions, {self.count():.3g} architectures>"

    # rows

    def count(self) -> int:
        """Rows of the space: the product of its decisions. Several may be the same function."""
        return prod(self.sizes.tolist())

    @property
    def listable(self) -> bool:
        """Whether all rows can be listed, and so a table can hold a score of each."""
        return self.count() <= MOST_ROWS

    def all_rows(self) -> Rows:
        """Every row, int64 [count, D], the last decision fastest."""
        if not self.listable:
            raise SpaceError(f"{self.name} has {self.count():.3g} rows, too many to list (at most {MOST_ROWS:,})")
        return np.stack(np.unravel_index(np.arange(self.count()), self.sizes.tolist()), 1).astype(np.int64)

    def check(self, rows: Any) -> Rows:
        """The rows as int64 [K, D] (a single row becomes [1, D]), after a check that the space holds them."""
        array = np.atleast_2d(np.asarray(rows))
        if array.ndim != 2 or array.shape[1] != len(self.decisions) or array.dtype.kind not in "iu":
            raise SpaceError(
                f"{self.name}: an architecture is a row of {len(self.decisions)} integers, "
                f"got {array.dtype} of shape {list(array.shape)}"
            )
        wrong = (array < 0) | (array >= self.sizes)
        if wrong.any():
            row, at = np.argwhere(wrong)[0].tolist()
            raise SpaceError(
                f"{self.name}: {self.decisions[at].name} must be 0 to {self.sizes[at] - 1}, got {array[row, at]}"
            )
        return array.astype(np.int64)

    def sample(self, generator: np.random.Generator, count: int) -> Rows:
        """``count`` rows, every decision uniform: int64 [count, D]."""
        return generator.integers(0, self.sizes, (count, len(self.sizes)), np.int64)

    def mutate(self, generator: np.random.Generator, row: Any) -> Rows:
        """The row with one decision changed to another value, both uniform: int64 [D]."""
        if self.sizes.max() == 1:
            raise SpaceError(f"{self.name} holds one architecture: there is nothing to change it to")
        child: Rows = population.mutate_one(self.check(row)[:1], self.sizes, generator.random((1, 2)))[0]
        return child

    def crossover(self, generator: np.random.Generator, one: Any, other: Any) -> Rows:
        """A row that takes every decision from either parent, with equal chances: int64 [D]."""
        child: Rows = population.crossover(self.check(one)[0], self.check(other)[0], generator.random(len(self.sizes)))
        return child

    def neighbours(self, row: Any) -> Rows:
        """All rows that differ in one decision: int64 [sum(sizes - 1), D]."""
        base = self.check(row)[0]
        found = []
        for at, size in enumerate(self.sizes.tolist()):
            for value in range(size):
                if value != base[at]:
                    found.append(base.copy())
                    found[-1][at] = value
        return np.array(found, np.int64).reshape(-1, len(base))

    def covering_rows(self) -> Rows:
        """Rows int64 [K, D] that together wire every operation of the space, whether or not it reaches the output.

        By default those that differ from the first row in at most one decision: enough where no operation follows two.
        """
        first = np.zeros(len(self.sizes), np.int64)
        return np.concatenate([first[None], self.neighbours(first)])

    # text

    def decode(self, row: Any) -> str:
        """The architecture as text, ``name=value`` for every decision; spaces with a published form use that."""
        return " ".join(f"{name}={value}" for name, value in self.choices(row).items())

    def encode(self, text: str) -> Rows:
        """The row, int64 [D], of an architecture that :meth:`decode` wrote."""
        given: dict[str, str] = {}
        for part in text.split():
            name, _, value = part.partition("=")
            if name in given:
                raise SpaceError(f"{self.name}: {name} is given twice")
            given[name] = value
        return self.row_of(given)

    def choices(self, row: Any) -> dict[str, Any]:
        """The chosen values by the decisions' names."""
        pairs = zip(self.decisions, self.check(row)[0].tolist(), strict=True)
        return {decision.name: decision.values[index] for decision, index in pairs}

    def row_of(self, choices: Choices) -> Rows:
        """The row, int64 [D], of chosen values by name; values may be given as their text."""
        row = []
        for decision in self.decisions:
            texts = [str(value) for value in decision.values]
            if decision.name not in choices:
                raise SpaceError(f"{self.name}: {decision.name} is missing; expected one of {', '.join(texts)}")
            value = str(choices[decision.name])
            if value not in texts:
                raise SpaceError(f"{self.name}: {decision.name} {must_be_one_of(value, texts)}")
            row.append(texts.index(value))
        names = [decision.name for decision in self.decisions]
        unknown = set(choices) - set(names)
        if unknown:
            raise SpaceError(f"{self.name} has no decision {min(unknown)!r}{did_you_mean(min(unknown), names)}")
        return np.array(row, np.int64)

    # networks

    def graph(self, row: Any, num_classes: int = 10, in_channels: int = 3) -> Graph:
        """The whole network as a graph."""
        net = Builder(self.operations, in_channels, num_classes)
        return net.graph(self.wire(self.choices(row), net), self.keep_unused)

    def build(self, row: Any, num_classes: int = 10, in_channels: int = 3) -> nn.Module:
        """A network of its own, freshly initialised: images [N, in_channels, H, W] to logits [N, num_classes]."""
        return GraphNetwork(self.graph(row, num_classes, in_channels))

    def cost(self, row: Any, num_classes: int = 10, in_channels: int = 3, size: int | None = None) -> Cost:
        """Parameters and FLOPs, for images of ``size`` pixels a side (``image_size`` by default)."""
        return graph_cost(self.graph(row, num_classes, in_channels), size or self.image_size, self.counter)

    def canonical(self, row: Any) -> str:
        """A form that architectures share when they are the same function, up to the values of their weights."""
        return self.graph(row).form()

    def picture(self, row: Any) -> tuple[Picture, ...]:
        """What :func:`nasfast.report.architecture_svg` draws: the whole graph, unless a space knows better."""
        graph = self.graph(row)
        arcs = []
        for index, node in enumerate(graph.nodes):
            label = node.op.name if node.op is not None else {"sum": "add"}.get(node.kind, node.kind)
            arcs += [(label, source, index) for source in node.inputs]
        states = ("in", *(str(index) for index in range(1, len(graph.nodes) - 1)), "out")
        return (Picture(self.name, states, tuple(arcs)),)
