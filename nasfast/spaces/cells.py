"""Cell-based spaces: a normal and a reduction cell, stacked into a network. Text form: the genotype's.

Each node of a cell adds two operations on earlier states (states 0 and 1 are the outputs of the two cells before), and
the cell joins some of its states. :func:`darts`, :func:`enas_micro` and :func:`nasnet` differ in the operations, in
whether a node may read one state twice, and in which states are joined.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial
from itertools import combinations
from typing import Any, ClassVar, Literal

import numpy as np

from nasfast.errors import SpaceError
from nasfast.kernels.primitives import ALL_PRIMITIVES, INPUTS_PER_NODE, PRIMITIVES
from nasfast.spaces.base import Choices, Picture, Rows, Space
from nasfast.spaces.genotype import Edge, Genotype
from nasfast.spaces.graph import Builder, Factory, Graph
from nasfast.spaces.operations import Classifier, conv_bn, factorized_reduce, primitive, relu_conv_bn
from nasfast.utils.suggest import did_you_mean

CELLS = ("normal", "reduce")
_STEM_MULTIPLIER = 3


class CellSpace(Space):
    """Two cells of ``steps`` nodes.

    Args:
        name: Its name in files and messages.
        primitives: Operations to choose from.
        steps: Nodes of a cell.
        sources: "distinct": a node reads two different states; "any": it may read one twice.
        joined: "all" nodes of a cell are joined into its output, or the "unused" ones, which no other node reads.
        layers: Cells of the network; those at one and two thirds of the depth are reduction cells.
        channels: Of a node in the first cell; both reductions double it.
    """

    cell_based = True
    operations: ClassVar[Mapping[str, Factory]] = {
        "stem": conv_bn,
        "preprocess": relu_conv_bn,
        "preprocess_halved": factorized_reduce,
        "skip_connect": factorized_reduce,
        "head": Classifier,
        **{name: partial(primitive, name=name) for name in ALL_PRIMITIVES if name not in ("none", "skip_connect")},
    }

    def __init__(
        self,
        name: str,
        primitives: Sequence[str],
        steps: int,
        sources: Literal["distinct", "any"],
        joined: Literal["all", "unused"],
        layers: int = 20,
        channels: int = 36,
    ) -> None:
        if steps < 1 or layers < 1 or channels < 2:
            raise SpaceError(f"{name}: needs steps and layers of at least 1, channels of at least 2")
        unknown = set(primitives) - set(ALL_PRIMITIVES) | set(primitives) & {"none"}
        if unknown:
            raise SpaceError(
                f"{name}: {min(unknown)!r} cannot be chosen; expected some of {', '.join(ALL_PRIMITIVES[1:])}"
                f"{did_you_mean(min(unknown), ALL_PRIMITIVES[1:])}"
            )
        self.primitives, self.steps, self.sources, self.joined = tuple(primitives), steps, sources, joined
        self.layers, self.channels = layers, channels
        decisions: dict[str, Sequence[Any]] = {}
        for cell in CELLS:
            decisions |= cell_decisions(cell, self.primitives, steps, sources)
        super().__init__(name, decisions)

    def genotype(self, row: Any) -> Genotype:
        """Both cells of an architecture."""
        choices = self.choices(row)
        cells = [cell_edges(choices, cell, self.steps, self.sources) for cell in CELLS]
        concats = [_joined_states(edges, self.joined) for edges in cells]
        return Genotype(cells[0], concats[0], cells[1], concats[1])

    def decode(self, row: Any) -> str:
        return str(self.genotype(row))

    def encode(self, text: str | Genotype) -> Rows:
        """The row, int64 [D], of a genotype or its printed form. Sources come in order."""
        genotype = Genotype.parse(text) if isinstance(text, str) else text
        choices: dict[str, Any] = {}
        for cell in CELLS:
            edges, concat = getattr(genotype, cell), getattr(genotype, f"{cell}_concat")
            if len(edges) != INPUTS_PER_NODE * self.steps:
                raise SpaceError(
                    f"{self.name}: {cell} must have {self.steps} nodes, got {len(edges) // INPUTS_PER_NODE}"
                )
            expected = _joined_states(edges, self.joined)
            if tuple(sorted(concat)) != expected:
                raise SpaceError(f"{self.name}: {cell}_concat must be {list(expected)}, got {list(concat)}")
            choices |= self._cell_choices(cell, edges)
        return self.row_of(choices)

    def _cell_choices(self, cell: str, edges: Sequence[Edge]) -> dict[str, Any]:
        choices: dict[str, Any] = {}
        for node in range(self.steps):
            pair = list(edges[INPUTS_PER_NODE * node : INPUTS_PER_NODE * (node + 1)])
            at = f"{cell}.{node}"
            if self.sources == "distinct":
                pair.sort(key=lambda edge: edge[1])
                if pair[0][1] == pair[1][1]:
                    raise SpaceError(f"{self.name}: {at} must read two different states, got {pair[0][1]} twice")
                choices[f"{at}.sources"] = f"{pair[0][1]},{pair[1][1]}"
            else:
                choices |= {f"{at}.source{i}": source for i, (_, source) in enumerate(pair)}
            choices |= {f"{at}.op{i}": name for i, (name, _) in enumerate(pair)}
        return choices

    def wire(self, choices: Choices, net: Builder) -> int:
        channels = self.channels
        before = previous = net.op("stem", net.input, _STEM_MULTIPLIER * channels, at="stem", kernel=3)
        halved = False
        for layer in range(self.layers):
            reduction = layer in (self.layers // 3, 2 * self.layers // 3)
            channels *= 2 if reduction else 1
            output = self.wire_cell(choices, net, (before, previous), channels, reduction, halved, f"cell{layer}")
            before, previous, halved = previous, output, reduction
        return net.op("head", previous, net.num_classes, at="head")

    def wire_cell(
        self,
        choices: Choices,
        net: Builder,
        inputs: tuple[int, int],
        channels: int,
        reduction: bool,
        halved: bool,
        at: str,
    ) -> int:
        """Write one cell and return its output.

        Args:
            inputs: Outputs of the cell before the previous one, and of the previous one.
            channels: Of each node.
            reduction: Write the reduction cell, whose operations on its inputs halve the image.
            halved: The previous cell halved the image, so that the first input is twice as large as the second.
        """
        cell = CELLS[reduction]
        first = ("preprocess_halved", 2) if halved else ("preprocess", 1)
        states = [
            net.op(first[0], inputs[0], channels, first[1], at=f"{at}/input0"),
            net.op("preprocess", inputs[1], channels, at=f"{at}/input1"),
        ]
        edges = cell_edges(choices, cell, self.steps, self.sources)
        for node in range(self.steps):
            terms = []
            for slot, (name, source) in enumerate(edges[INPUTS_PER_NODE * node : INPUTS_PER_NODE * (node + 1)]):
                stride = 2 if reduction and source < INPUTS_PER_NODE else 1
                # One state read twice by one node needs two sets of weights.
                twice = f"/{slot}" if self.sources == "any" else ""
                place = f"{at}/{cell}{source}->{INPUTS_PER_NODE + node}{twice}"
                terms.append(net.op(name, states[source], channels, stride, at=place))
            states.append(net.sum(terms))
        return net.concat([states[i] for i in _joined_states(edges, self.joined)], ordered=False)

    def covering_rows(self) -> Rows:
        """Every operation from every source at once, then every number of joined states, on which channels depend."""
        names = [decision.name for decision in self.decisions]
        reads = np.array([".source" in name for name in names])
        rows = []
        for source in range(int(self.sizes[reads].max())):
            for primitive_number in range(len(self.primitives)):
                rows.append(np.where(reads, np.minimum(source, self.sizes - 1), primitive_number))
        for chained in range(self.steps if self.joined == "unused" else 0):
            row = np.zeros(len(names), np.int64)
            for cell in CELLS:
                for node in range(1, chained + 1):  # reads the node before, which is joined no longer
                    for slot in range(INPUTS_PER_NODE):
                        row[names.index(f"{cell}.{node}.source{slot}")] = INPUTS_PER_NODE + node - 1
            rows.append(row)
        return np.stack(rows)

    def canonical(self, row: Any) -> str:
        """The forms of both cells; the order of nodes, of a node's inputs and of joined states does not count."""
        choices = self.choices(row)
        return "".join(self.cell_graph(choices, reduction).form() for reduction in (False, True))

    def cell_graph(self, choices: Choices, reduction: bool) -> Graph:
        """One cell alone, as a graph whose two inputs differ in their channels."""
        net = Builder(self.operations)
        inputs = [net.op("stem", net.input, i * self.channels, at=f"before{i}") for i in (1, 2)]
        return net.graph(self.wire_cell(choices, net, (inputs[0], inputs[1]), self.channels, reduction, False, "cell"))

    def picture(self, row: Any) -> tuple[Picture, ...]:
        genotype = self.genotype(row)
        states = ("c_{k-2}", "c_{k-1}", *map(str, range(self.steps)), "c_{k}")
        pictures = []
        for cell, title in zip(CELLS, ("Normal cell", "Reduction cell"), strict=True):
            edges = enumerate(getattr(genotype, cell))
            arcs = tuple((name, source, INPUTS_PER_NODE + i // INPUTS_PER_NODE) for i, (name, source) in edges)
            pictures.append(Picture(title, states, arcs, getattr(genotype, f"{cell}_concat"), INPUTS_PER_NODE))
        return tuple(pictures)


def cell_decisions(cell: str, primitives: Sequence[str], steps: int, sources: str) -> dict[str, Sequence[Any]]:
    """Decisions of one cell, node by node: which states it reads, and through which operations."""
    decisions: dict[str, Sequence[Any]] = {}
    for node in range(steps):
        at, states = f"{cell}.{node}", range(INPUTS_PER_NODE + node)
        if sources == "distinct":
            decisions[f"{at}.sources"] = [f"{one},{other}" for one, other in combinations(states, 2)]
        else:
            decisions |= {f"{at}.source0": states, f"{at}.source1": states}
        decisions |= {f"{at}.op0": primitives, f"{at}.op1": primitives}
    return decisions


def cell_edges(choices: Choices, cell: str, steps: int, sources: str) -> tuple[Edge, ...]:
    """(primitive, source) pairs of a cell, two per node."""
    edges: list[Edge] = []
    for node in range(steps):
        at = f"{cell}.{node}"
        if sources == "distinct":
            read = [int(state) for state in choices[f"{at}.sources"].split(",")]
        else:
            read = [choices[f"{at}.source0"], choices[f"{at}.source1"]]
        edges += [(choices[f"{at}.op{i}"], state) for i, state in enumerate(read)]
    return tuple(edges)


def _joined_states(edges: Sequence[Edge], joined: str) -> tuple[int, ...]:
    states = range(INPUTS_PER_NODE, INPUTS_PER_NODE + len(edges) // INPUTS_PER_NODE)
    read = {source for _, source in edges} if joined == "unused" else set()
    return tuple(state for state in states if state not in read)


def darts(layers: int = 20, channels: int = 36, steps: int = 4) -> CellSpace:
    """Liu, Simonyan, Yang, "DARTS: Differentiable Architecture Search", ICLR 2019: four nodes, all joined."""
    return CellSpace("darts", PRIMITIVES[1:], steps, "distinct", "all", layers, channels)


def enas_micro(layers: int = 17, channels: int = 36, steps: int = 4) -> CellSpace:
    """Pham et al., "Efficient Neural Architecture Search via Parameter Sharing", ICML 2018, the micro space."""
    primitives = ("skip_connect", "sep_conv_3x3", "sep_conv_5x5", "avg_pool_3x3", "max_pool_3x3")
    return CellSpace("enas-micro", primitives, steps, "any", "unused", layers, channels)


def nasnet(layers: int = 20, channels: int = 36, steps: int = 5) -> CellSpace:
    """Zoph et al., "Learning Transferable Architectures for Scalable Image Recognition", CVPR 2018.

    Five nodes; the operations are those of the published NASNet-A and AmoebaNet cells.
    """
    primitives = tuple(name for name in ALL_PRIMITIVES if name not in ("none", "dil_conv_5x5"))
    return CellSpace("nasnet", primitives, steps, "any", "unused", layers, channels)
